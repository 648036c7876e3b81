"""Name -> ``module:attribute`` tables: the only lazy import of the project.

Third parties add to a table with an entry point of the group ``edgekit.<table>``, for example

    [project.entry-points."edgekit.runtimes"]
    myruntime = "mypackage.runner:MyRunner"

A name that is built in cannot be replaced by an entry point.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar

from edgekit.errors import DeviceError, UsageError

T = TypeVar("T")

TABLES: Mapping[str, Mapping[str, str]] = {
    "runtimes": {
        "onnxruntime": "edgekit.runtime.onnxruntime:OnnxRuntimeRunner",
        "litert": "edgekit.runtime.litert:LiteRtRunner",
        "tflite-runtime": "edgekit.runtime.litert:TfliteRuntimeRunner",
        "torch": "edgekit.runtime.torch:TorchRunner",
        "tensorflow": "edgekit.runtime.tensorflow:TensorflowRunner",
        "executorch": "edgekit.runtime.executorch:ExecuTorchRunner",
        "openvino": "edgekit.runtime.openvino:OpenVinoRunner",
        "tflm": "edgekit.runtime.tflm:TflmRunner",
    },
    "variants": {  # of a runtime, where another class than its own runs them, or one of them
        "litert": "edgekit.runtime.litert_compiled:CompiledModelRunner",
        "litert:reference": "edgekit.runtime.litert:ReferenceRunner",
        "torch": "edgekit.runtime.torch_resident:TorchResidentRunner",
    },
    "devices": {
        "cpu": "edgekit.devices.local:LocalTransport",
        "python": "edgekit.devices.local:PythonTransport",
        "ssh": "edgekit.devices.ssh:SshTransport",
        "class": "edgekit.devices.classes:ClassTransport",
        "emulator": "edgekit.devices.emulator:EmulatorTransport",
        "cuda": "edgekit.devices.cuda:CudaTransport",
        "adb": "edgekit.devices.adb:AdbTransport",
        "mcu": "edgekit.devices.mcu:McuTransport",
    },
    "converters": {
        "onnx": "edgekit.converters.torch_to_onnx:TorchToOnnx",
        "tflite": "edgekit.converters.torch_to_tflite:TorchToTflite",
        "pt2": "edgekit.converters.torch_to_pt2:TorchToPt2",
        "pte": "edgekit.converters.torch_to_pte:TorchToPte",
    },
    "passes": {
        "channels": "edgekit.pruning.methods:CHANNELS",
        "blocks": "edgekit.pruning.methods:BLOCKS",
        "magnitude": "edgekit.pruning.methods:MAGNITUDE",
        "2:4": "edgekit.pruning.methods:TWO_OF_FOUR",
        "int8": "edgekit.quantization.schemes:INT8",
        "int8-dynamic": "edgekit.quantization.schemes:INT8_DYNAMIC",
        "int8-weights": "edgekit.quantization.schemes:INT8_WEIGHTS",
        "int4-weights": "edgekit.quantization.schemes:INT4_WEIGHTS",
        "int16x8": "edgekit.quantization.schemes:INT16X8",
        "fp16": "edgekit.quantization.schemes:FP16",
    },
    "sources": {
        "zoo": "edgekit.source.zoo:Zoo",
        "timm": "edgekit.source.timm:Timm",
        "hf": "edgekit.source.huggingface:HuggingFace",
        "factory": "edgekit.source.factory:Factory",
        "checkpoint": "edgekit.source.checkpoint:Checkpoint",
        "pt2": "edgekit.source.program:Program",
        "onnx": "edgekit.source.onnxfile:OnnxFile",
        "keras": "edgekit.source.keras:Keras",
        "savedmodel": "edgekit.source.savedmodel:SavedModel",
    },
    "extras": {
        "sustain": "edgekit.extras.sustain:EXTRA",
        "roofline": "edgekit.extras.roofline:EXTRA",
        "cold": "edgekit.extras.cold:EXTRA",
        "fit": "edgekit.extras.fit:EXTRA",
        "end_to_end": "edgekit.extras.end_to_end:EXTRA",
        "energy": "edgekit.extras.energy:EXTRA",
        "probe": "edgekit.extras.probe:EXTRA",
        "instructions": "edgekit.extras.instructions:EXTRA",
        "profile": "edgekit.extras.profile:EXTRA",
    },
    "scenarios": {  # of bench, where queries come at given times
        "server": "edgekit.extras.load:SERVER",
        "fixed-rate": "edgekit.extras.load:FIXED_RATE",
    },
    "steps": {
        "train": "edgekit.pipeline.steps:TRAIN",
        "finetune": "edgekit.pipeline.steps:FINETUNE",
        "prune": "edgekit.pipeline.steps:PRUNE",
        "export": "edgekit.pipeline.steps:EXPORT",
        "quantize": "edgekit.pipeline.steps:QUANTIZE",
        "verify": "edgekit.pipeline.steps:VERIFY",
        "eval": "edgekit.pipeline.steps:EVAL",
        "bench": "edgekit.pipeline.steps:BENCH",
        "package": "edgekit.pipeline.steps:PACKAGE",
    },
    "packages": {
        "python": "edgekit.packaging.python:TARGET",
        "cpp": "edgekit.packaging.cpp:TARGET",
        "mcu": "edgekit.packaging.mcu:TARGET",
        "android": "edgekit.packaging.android:TARGET",
        "ios": "edgekit.packaging.ios:TARGET",
    },
    "families": {
        "mlp": "edgekit.models.mlp:FAMILY",
        "cnn": "edgekit.models.cnn:FAMILY",
        "transformer": "edgekit.models.transformer:FAMILY",
        "rnn": "edgekit.models.recurrent:RNN",
        "lstm": "edgekit.models.recurrent:LSTM",
        "gru": "edgekit.models.recurrent:GRU",
        "gan": "edgekit.models.gan:FAMILY",
        "autoencoder": "edgekit.models.autoencoder:FAMILY",
        "detector": "edgekit.models.detector:FAMILY",
        "segmenter": "edgekit.models.segmenter:FAMILY",
    },
    "objectives": {
        "classification": "edgekit.models.objective:CLASSIFICATION",
        "forecasting": "edgekit.models.objective:FORECASTING",
        "anomaly": "edgekit.models.objective:ANOMALY",
        "detection": "edgekit.models.boxes:DETECTION",
        "segmentation": "edgekit.models.segmentation:SEGMENTATION",
        "regression": "edgekit.models.value_objectives:REGRESSION",
        "multilabel": "edgekit.models.value_objectives:MULTILABEL",
    },
    "metrics": {
        "classification": "edgekit.quality.evaluate:accuracy",
        "forecasting": "edgekit.quality.forecast:forecast_error",
        "anomaly": "edgekit.quality.anomaly:roc_auc",
        "generation": "edgekit.quality.frechet:frechet",
        "segmentation": "edgekit.quality.metrics:segmentation",
        "regression": "edgekit.quality.metrics:regression",
        "multilabel": "edgekit.quality.metrics:multilabel",
        "detection": "edgekit.quality.average_precision:detection",
        "embedding": "edgekit.quality.recognition:embedding",
        "ctc": "edgekit.quality.recognition:ctc",
        "keypoints": "edgekit.quality.recognition:keypoints",
    },
    "kinds": {
        "image": "edgekit.data.pixels:KIND",
        "table": "edgekit.data.table:KIND",
        "text": "edgekit.data.text:KIND",
        "audio": "edgekit.data.audio:KIND",
        "series": "edgekit.data.series:KIND",
        "noise": "edgekit.data.noise:KIND",
    },
    "data": {
        "digits": "edgekit.data.embedded:open_digits",
        "breast-cancer": "edgekit.data.embedded:open_breast_cancer",
        "digit-masks": "edgekit.data.scenes:open_digit_masks",
        "cifar10": "edgekit.data.cifar10:open_cifar10",
        "fsdd": "edgekit.data.fsdd:open_fsdd",
        "sst2": "edgekit.data.sentences:SST2",
        "etth1": "edgekit.data.etth1:ETTH1",
        "images": "edgekit.data.images:open_images",
        "masks": "edgekit.data.masks:open_masks",
        "digit-scenes": "edgekit.data.digit_scenes:open_digit_scenes",
        "coco": "edgekit.data.coco:open_coco",
        "yolo": "edgekit.data.yolo:open_yolo",
        "text": "edgekit.data.sentences:open_text",
        "audio": "edgekit.data.audio:open_audio",
        "series": "edgekit.data.series:open_series",
        "table": "edgekit.data.table:open_table",
        "npz": "edgekit.data.arrays:open_npz",
        "function": "edgekit.data.userdata:open_function",
    },
}

_ONE_OF = {"families": "family", "passes": "pass", "data": "data set", "packages": "target of package"}
"""Table -> what one entry of it is called, where that is not the table's name without its s."""


def _third_party(table: str) -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=f"edgekit.{table}")}


def names(table: str) -> tuple[str, ...]:
    """Every name of ``table``: built in first, then those of entry points."""
    built_in = TABLES[table]
    return (*built_in, *(name for name in _third_party(table) if name not in built_in))


def entries(table: str, kind: type[T]) -> dict[str, T]:
    """Name -> object of every entry of ``table`` that is a ``kind``, all imported now."""
    found = ((name, lookup(table, name)) for name in names(table))
    return {name: one for name, one in found if isinstance(one, kind)}


def entry(table: str, name: str, kind: type[T], what: str, *others: str) -> T:
    """The ``kind`` called ``name``.

    Raises:
        UsageError: it does not exist; the message calls it ``what``, and lists those there are, and ``others``.
    """
    found = lookup(table, name) if name in names(table) else None
    if isinstance(found, kind):
        return found
    raise UsageError(f"no {what} is called {name!r}; there are: {', '.join([*entries(table, kind), *others])}")


def lookup(table: str, name: str) -> Any:
    """The object behind ``name``, imported now.

    Raises:
        UsageError: no such name; the message lists the names there are.
        ImportError: the module behind a name of edgekit's own needs a package that is not installed.
        DeviceError: what another package brings under the name cannot be imported.
    """
    target = TABLES[table].get(name)
    if target is not None:
        module, _, attribute = target.partition(":")
        return getattr(importlib.import_module(module), attribute)
    point = _third_party(table).get(name)
    if point is None:
        known = ", ".join(names(table))
        what = _ONE_OF.get(table, table.removesuffix("s"))
        raise UsageError(f"no {what} is called {name!r}; there are: {known}")
    try:
        return point.load()
    except Exception as error:
        raise DeviceError(
            f"{point.value}, which an installed package names {name!r} in edgekit.{table}, cannot be imported: "
            f"{type(error).__name__}: {error}. Mend that package, or uninstall it"
        ) from error
