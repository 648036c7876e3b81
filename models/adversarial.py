"""Training a generator against a discriminator (Goodfellow et al., 2014), on Lightning Fabric.

The discriminator learns to tell real images from generated ones, the generator to be taken for real: the
non-saturating logistic loss. What both see is moved by a few pixels first, so that a small data set is not learned by
heart (Zhao et al., 2020), and the generator that is kept is the moving average of its weights (Yazici et al., 2019).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgekit.data import Dataset
from edgekit.errors import DataError, GateError, UsageError
from edgekit.models.augment import crop_and_flip, padded, padding_for
from edgekit.models.family import Hyperparameters
from edgekit.models.gan import discriminator
from edgekit.models.resume import RunState
from edgekit.models.samples import decoded
from edgekit.models.training import Average, Progress, check_options, identity, open_fabric
from edgekit.results.train import Fit
from edgekit.types import InputSpec, Network

log = logging.getLogger("edgekit")
BETA2 = 0.999
WON = 0.02
"""A discriminator whose mean loss is below this tells every image; the generator then has no gradient to learn from."""
WON_EPOCHS = 10
"""So many epochs of it in a row end the training."""
LAST = 0.5
"""The learning rate falls linearly to 0 over this last share of the steps."""


def fit_adversarial(
    network: Network,
    data: Dataset,
    options: Hyperparameters,
    *,
    device: str = "cpu",
    state: Path | None = None,
    teacher: Network | None = None,
    progress: Progress | None = None,
) -> Fit:
    """Trains the generator ``network.module`` in place and leaves its averaged weights in it, in eval mode.

    A run that was killed goes on from ``state`` and ends with the same weights. ``progress`` is called with the
    discriminator's loss and the share of images, real and generated, that it tells rightly (0.5: it is guessing).

    Raises:
        DataError: samples that are not images, or fewer than a batch needs.
        GateError: a loss is no longer a finite number, or the discriminator has won for good.
        DeviceError: no such device here.
        UsageError: a teacher, or numbers that are out of range.
    """
    check_options(options)
    if teacher is not None:
        raise UsageError("a generator is trained against a discriminator, not distilled; leave --distil-from out")
    if options.processes > 1:
        raise UsageError(
            f"a generator and its discriminator learn in one process, --processes is {options.processes}; leave it out"
        )
    images = _Images(network, data, options)
    torch.manual_seed(options.seed)
    params = network.task.params
    config = network.card.config.get("builder", {})
    opponent = discriminator(channels=int(params["channels"]), width=int(config.get("width", 32)), size=images.size[0])
    pair = nn.ModuleDict({"generator": network.module, "discriminator": opponent}).train()
    optimizer = torch.optim.Adam(pair.parameters(), lr=options.lr, betas=(options.momentum, BETA2))
    average = Average(network.module, options.average)
    run = RunState(state, identity(network, data, options))
    first = run.load(pair, average.module, optimizer)
    fabric = open_fabric(device, options.precision, pair)
    wrapped = {name: fabric.setup_module(module) for name, module in pair.items()}
    average.module.to(fabric.device)
    match = _Match(fabric, wrapped["generator"], wrapped["discriminator"], fabric.setup_optimizers(optimizer), average)
    won, told = 0, 0.5
    for epoch in range(first, options.epochs):
        loss, told = match.epoch(epoch, images, options)
        won = won + 1 if loss < WON else 0
        _stop_if_lost(loss, won, epoch, options, run)
        run.remember(epoch + 1, told, average.module)
        run.save(epoch + 1, pair, average.module, optimizer)
        if progress:
            progress(epoch + 1, options.epochs, loss, told, "images told apart")
    network.module.load_state_dict(run.best)
    network.module.to("cpu").eval()
    run.remove()
    return Fit(options.epochs - first, run.best_epoch, run.best_score, 0, len(images))


def _stop_if_lost(loss: float, won: int, epoch: int, options: Hyperparameters, run: RunState) -> None:
    """Raises GateError where training has diverged; its state is removed, since a resumed run would end here again."""
    if not math.isfinite(loss):
        cause = f"the loss of epoch {epoch + 1} is {loss}"
    elif won >= WON_EPOCHS:
        cause = (
            f"for {won} epochs, up to epoch {epoch + 1}, the discriminator has told every image (its loss is "
            f"{loss:.2g}), so the generator learns nothing any more"
        )
    else:
        return
    run.remove()
    raise GateError(
        f"training diverged: {cause}; nothing was written. Try another --seed, or a lower learning rate (now "
        f"{options.lr:g})"
    )


class _Images:
    """The data's images as uint8 (N, H, W, C) of the generator's size, with room at the edges to move them."""

    def __init__(self, network: Network, data: Dataset, options: Hyperparameters) -> None:
        params = network.task.params
        if data.kind != "image":
            raise DataError(f"{data.label} holds {data.kind} samples; a generator of images learns from images")
        if len(data) < 2:
            raise DataError(f"{data.label} holds {len(data)} image; a generator learns from many (hundreds, at least)")
        height, width = params["size"]
        self.size = (int(height), int(width))
        self.latent = int(network.signature.inputs[0].resolved()[1])
        self.low, self.high = map(float, params["range"])
        self.channels = int(params["channels"])
        contract = InputSpec("image", "NHWC", self.size, self.channels)
        self.pixels = torch.from_numpy(decoded(data.arrays["image"], contract))
        self.pad = padding_for(options.augment, self.size[0])
        self.flip = options.augment == "crop-flip"

    def __len__(self) -> int:
        return len(self.pixels)

    def batches(self, epoch: int, options: Hyperparameters) -> Iterator[tuple[Tensor, Tensor, torch.Generator]]:
        """(real images (B, C, H, W) in the generator's range, noise (B, latent), a source of random moves)."""
        bits = np.random.PCG64(np.random.SeedSequence([options.seed, epoch]))
        order = torch.from_numpy(np.random.Generator(bits).permutation(len(self)))
        chance = torch.Generator().manual_seed(options.seed * 100_003 + epoch)
        for start in range(0, len(order), options.batch):
            picked = order[start : start + options.batch]
            if len(picked) == 1:
                continue  # batch normalisation has no variance of one sample
            real = self.pixels[picked].permute(0, 3, 1, 2).float() * ((self.high - self.low) / 255.0) + self.low
            yield real, torch.randn(len(picked), self.latent, generator=chance), chance

    def moved(self, images: Tensor, chance: torch.Generator) -> Tensor:
        """Each image moved by a few pixels, its edges reflected; gradients pass."""
        if self.pad == 0:
            return images
        room = padded(images.permute(0, 2, 3, 1), self.pad)
        return crop_and_flip(room, self.size, self.flip, chance).permute(0, 3, 1, 2)


@dataclass(frozen=True, slots=True)
class _Match:
    """One epoch of generator against discriminator, over the parts that stay the same.

    One optimizer serves both: it leaves parameters without a gradient alone.
    """

    fabric: Any
    generator: Any
    discriminator: Any
    optimizer: Any
    average: Average

    def epoch(self, epoch: int, images: _Images, options: Hyperparameters) -> tuple[float, float]:
        """Trains one epoch; gives the mean loss of the discriminator and the share of images it told rightly."""
        self.generator.train()
        self.discriminator.train()
        steps = math.ceil(len(images) / options.batch)
        losses, told, count = 0.0, 0.0, 0
        for k, (real, noise, chance) in enumerate(images.batches(epoch, options)):
            step = epoch * steps + k
            self._set_rate(step / (options.epochs * steps), options)
            real, noise = real.to(self.fabric.device), noise.to(self.fabric.device)
            fake = self.generator(noise)
            loss, right = self._teach_discriminator(images.moved(real, chance), images.moved(fake.detach(), chance))
            deceived = self._teach_generator(images.moved(fake, chance))
            self.average.update(step)
            losses += loss + 0.0 * deceived  # NaN in either shows
            told += right
            count += 1
        return losses / max(count, 1), told / max(count, 1)

    def _set_rate(self, progress: float, options: Hyperparameters) -> None:
        rate = options.lr * min(1.0, (1.0 - progress) / LAST)
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def _teach_discriminator(self, real: Tensor, fake: Tensor) -> tuple[float, float]:
        of_real, of_fake = self.discriminator(real).float(), self.discriminator(fake).float()
        loss = F.softplus(-of_real).mean() + F.softplus(of_fake).mean()
        self._step(loss)
        right = ((of_real > 0).float().mean() + (of_fake < 0).float().mean()) / 2
        return float(loss.detach()), float(right)

    def _teach_generator(self, fake: Tensor) -> float:
        self.discriminator.requires_grad_(False)
        loss = F.softplus(-self.discriminator(fake).float()).mean()
        self._step(loss)
        self.discriminator.requires_grad_(True)
        return float(loss.detach())

    def _step(self, loss: Tensor) -> None:
        self.optimizer.zero_grad()
        self.fabric.backward(loss)
        self.optimizer.step()
