"""A SavedModel folder: not a torch network, so TensorFlow runs it as the reference and converts it, to TFLite only."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from edgekit.artifact import is_saved_model, open_artifact, sha256_model
from edgekit.source.base import Source
from edgekit.types import Card, Network, Task


class SavedModel(Source):
    form: ClassVar[str] = "a SavedModel folder"

    def claims(self, text: str) -> bool:
        return is_saved_model(text)

    def resolve(self, text: str) -> Network:
        import torch

        from edgekit.data.seeded import seeded_feed
        from edgekit.devices import open_runner
        from edgekit.source.foreign import RunnerModule

        artifact = open_artifact(text)
        with torch.no_grad():
            module = RunnerModule(open_runner(artifact.path), artifact)
        signature = module.runner.signature
        digest = sha256_model(artifact.path)
        name = Path(text).resolve().name
        config = {"factory": text, "sha256": digest}
        card = artifact.card or Card(name, "custom", Task(), signature, config=config, source_sha256=digest)
        return Network(module.eval(), dict(seeded_feed(signature, card.contract, 0)), card)
