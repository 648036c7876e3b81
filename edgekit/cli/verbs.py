"""The verbs of the command line; a module of its own, so that none is imported for the help."""

from __future__ import annotations

from collections.abc import Mapping

VERBS: Mapping[str, tuple[str, str]] = {
    "models": ("edgekit.cli.models", "Lists the network families, their size, task and shipped quality."),
    "train": ("edgekit.cli.train", "Trains a network family from scratch and keeps the best weights."),
    "finetune": ("edgekit.cli.finetune", "Goes on from trained weights: new classes, recovery, distillation."),
    "export": ("edgekit.cli.export", "Converts a network to ONNX, TFLite or PT2, proves it, publishes it."),
    "prune": (
        "edgekit.cli.prune",
        "Removes whole channels, hidden units, heads or residual blocks from a network and fine-tunes what is left.",
    ),
    "quantize": ("edgekit.cli.quantize", "Makes a smaller file with integer or half-precision weights."),
    "optimize": (
        "edgekit.cli.optimize",
        "Searches for the best files of a network on a device.",
    ),
    "eval": ("edgekit.cli.eval", "Measures the task's metric of a model file on a data set."),
    "verify": ("edgekit.cli.verify", "Compares a model's outputs with another model or its source, case by case."),
    "bench": ("edgekit.cli.bench", "Times models, several of them in interleaved blocks."),
    "compare": ("edgekit.cli.compare", "Compares two saved bench results."),
    "report": ("edgekit.cli.report", "Makes one page of saved results, which works offline and can be shown."),
    "run": ("edgekit.cli.run", "Runs one inference on real input: prints labels or writes arrays."),
    "inspect": ("edgekit.cli.inspect", "Shows what a model file is: card, signature, operators, size, history."),
    "package": ("edgekit.cli.package", "Makes what an app loads: the file, its preprocessing as code, a self-test."),
    "recipe": ("edgekit.cli.recipe", "Several steps, formats and devices in one run that can be continued."),
    "device": ("edgekit.cli.device", "Lists, names and checks the places models can run."),
    "doctor": ("edgekit.cli.doctor", "Says what is installed, which backends work, and how to get the rest."),
}
"""Verb -> its module and the line ``edgekit --help`` prints for it, in the order of the flow."""

GROUPS: Mapping[str, tuple[str, ...]] = {
    "Make": ("models", "train", "finetune", "export"),
    "Shrink": ("prune", "quantize", "optimize", "recipe"),
    "Prove": ("eval", "verify", "inspect"),
    "Measure": ("bench", "compare", "report"),
    "Ship": ("run", "package", "device", "doctor"),
}
"""What verbs are for -> these verbs, as ``edgekit --help`` shows them."""

EXAMPLES: Mapping[str, str] = {
    "models": "edgekit models",
    "train": "edgekit train mlp --data breast-cancer --epochs 20 -o mlp.safetensors",
    "finetune": "edgekit finetune cnn --data images:photos --epochs 10 -o mine.safetensors",
    "export": "edgekit export net.py:make --to onnx,tflite -o build",
    "prune": "edgekit prune cnn --amount 0.5 --data cifar10 --epochs 10 -o small.safetensors",
    "quantize": "edgekit quantize net.onnx --scheme int8 --data images:photos --max-drop 0.01 -o net-int8.onnx",
    "optimize": "edgekit optimize net.py:make --data images:photos --max-drop 0.01 --trials 30 -o best",
    "eval": "edgekit eval net-int8.tflite --data images:photos --min 0.9",
    "verify": "edgekit verify net.tflite --against net.py:make",
    "bench": "edgekit bench net.onnx net-int8.onnx --seconds 3 --threads 1,2",
    "compare": "edgekit compare new.json old.json",
    "report": "edgekit report bench.json eval.json -o report.html",
    "run": "edgekit run cnn.onnx photo.jpg",
    "inspect": "edgekit inspect net.tflite",
    "package": "edgekit package net-int8.tflite --for android -o app",
    "recipe": "edgekit recipe run mlp -o build",
    "device": "edgekit device add board ssh://pi@raspberry",
    "doctor": "edgekit doctor",
}
"""Verb -> a command line for the end of its help."""
