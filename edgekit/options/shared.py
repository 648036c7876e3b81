"""Options that several verbs have: their metadata, said once."""

from __future__ import annotations

from edgekit.iospec import METRICS
from edgekit.options.base import option

SOURCE = option(
    "A zoo name, a checkpoint, file.py:factory, pkg.mod:factory or a .pt2 file.", metavar="SOURCE", takes="source"
)
DATA = option(
    "Data set: digits, digit-masks, digit-scenes, breast-cancer, cifar10, fsdd, sst2, etth1, images:DIR, audio:DIR, "
    "text:FILE.tsv, series:FILE.csv, table:FILE.csv, npz:FILE, masks:DIR, coco:FILE.json, yolo:DIR, file.py:function; "
    "@train or @test.",
    metavar="DATA",
    names="data",
)
SEED = option("Seed.", metavar="N", at_least=0)
LIMIT = option("Use the first N samples only.", metavar="N", at_least=1)
ON = option("cpu, python:/path/to/python, ssh://user@host, or a saved name.", metavar="DEVICE", names="device")
TRAIN_ON = option("Where to train.", metavar="DEVICE", choices=("cpu", "cuda"), aliases=("device",))
RUNTIME = option(
    "onnxruntime[:PROVIDER], litert[:cpu|:gpu|:npu], tflite-runtime, torch[:eager|:compile|:cudagraph], tensorflow.",
    metavar="NAME",
    names="runtime",
)
SHAPE = option("INPUT=1x576 or DIMENSION=576, for free axes.", metavar="NAME=N[xN]")
INPUT = option("One real sample (.npz, .npy, .jpg, .wav, .csv), besides the others.", metavar="FILE", names="input")
FACTORY = option("What builds the network of a checkpoint of your own.", metavar="file.py:NAME", names="code")
WEIGHTS = option(
    "Weights for the network: a state dict (.pt, .pth, .ckpt) or .safetensors.", metavar="FILE", names="input"
)
METRIC = option("A figure by name, or your own function of outputs and targets.", metavar="NAME|file.py:NAME")
IO_FILE = option("An io.toml: what inputs and outputs mean.", metavar="io.toml", names="input")
TASK = option("What the outputs mean.", metavar="TASK", choices=tuple(METRICS))
THREADS = option("Threads of the runtime.", metavar="N", at_least=1)
TOLERANCE = option("Largest absolute difference that passes.", metavar="T", at_least=0)
MAX_DROP = option(
    "Largest loss of quality to publish, as a fraction (0.01: one point of accuracy).",
    metavar="D",
    at_least=0,
    below=1,
    example="0.01 allows one point of accuracy",
)
CHECKPOINT = option(
    "Checkpoint to write (.safetensors).", metavar="OUT.safetensors", flags=("-o", "--out"), gives="checkpoint"
)
EPOCHS = option("Passes over the data.", metavar="N", at_least=1)
LR = option("Peak learning rate.", metavar="RATE", above=0)
PROCESSES = option("Data-parallel processes, one a GPU on cuda.", metavar="N", at_least=1)
OVERRIDES = option("Fields of edgekit.models.family.Hyperparameters to replace.", python=True)
PROGRESS = option("Called after each epoch with its number, their number, loss, score, name of the score.", python=True)
FAIL_SLOWER = option(
    "Exit 1 if slower by more than this, 5 if the noise allows no verdict.", metavar="PERCENT", at_least=0
)
