"""Convolutions over time, step by step: whole networks in torch against their steps, and what is refused by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgekit.converters.streaming.one_step import one_step
from edgekit.errors import UnsupportedError
from edgekit.types import TIME, Network

NetworkOf = Callable[..., Network]
TOLERANCE = 2e-5
"""Float32 rounding (6e-8 a sum) of values around 1, through four layers and 40 steps of a recurrent one."""


def settled(module: nn.Module) -> nn.Module:
    """``module`` with statistics that shift zeros, so that padding behind a normalisation is not padding before it."""
    torch.manual_seed(0)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d) and part.running_mean is not None:
            nn.init.normal_(part.bias)
            nn.init.normal_(part.running_mean)
    return module.eval()


class Causal(nn.Module):
    """Padded at the front only, by three spellings."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv1d(3, 4, 3, dilation=2), nn.Conv1d(4, 4, 2, groups=2)
        self.pad, self.norm = nn.ConstantPad1d((4, 0), 0.0), nn.BatchNorm1d(4)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.norm(self.first(self.pad(x))))
        y = self.second(functional.pad(y, (1, 0)))
        return self.second(torch.cat([y.new_zeros(y.shape[0], 4, 1), y], -1))


class Temporal(nn.Module):
    """Blocks of a temporal convolutional network (Bai et al. 2018): padded at both ends, cut at the end, residual."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv1d(3 if d == 1 else 4, 4, 3, padding=2 * d, dilation=d) for d in (1, 2, 4))
        self.down = nn.Conv1d(3, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            y = torch.relu(layer(x)[:, :, : -layer.padding[0]].contiguous())
            x = y + (self.down(x) if x.shape[1] == 3 else x)
        return x


class Same(nn.Module):
    """Looks ahead: ``same`` padding with normalisation between, and a residual connection around."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv1d(3, 4, 5, padding=2), nn.Conv1d(4, 4, 4, padding="same"), nn.Conv1d(3, 4, 1)
        self.norm, self.rows = nn.BatchNorm1d(4), nn.LayerNorm(4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.b(torch.relu(self.norm(self.a(x))))
        return self.rows((y + self.c(x)).transpose(1, 2)).transpose(1, 2)


class Crnn(nn.Module):
    """Convolutions over time and frequency, then a recurrent layer; a row a step and two answers."""

    def __init__(self, stride: int, cell: type[nn.RNNBase] = nn.GRU) -> None:
        super().__init__()
        self.a, self.norm = nn.Conv2d(1, 4, 3, padding=1, stride=(stride, 2)), nn.BatchNorm2d(4)
        self.b, self.pool = nn.Conv2d(4, 4, 3, padding=1), nn.MaxPool2d(2)
        self.rnn, self.head = cell(8, 5, batch_first=True), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        y = self.pool(torch.relu(self.b(torch.relu(self.norm(self.a(x[:, None]))))))
        z, end = self.rnn(y.permute(0, 2, 1, 3).flatten(2))
        end = end[0] if isinstance(end, tuple) else end
        return {"rows": self.head(z), "last": self.head(z[:, -1]), "end": self.head(end[-1])}


class Strided(nn.Module):
    """Two strides, and a shorter way beside them."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv1d(3, 4, 3, stride=2, padding=1), nn.Conv1d(4, 4, 5, stride=2, padding=2)
        self.short, self.lstm = nn.Conv1d(3, 4, 1, stride=4), nn.LSTM(4, 4, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.lstm((self.b(torch.relu(self.a(x))) + self.short(x)).transpose(1, 2))[0]


class Narrow(nn.Module):
    """Without padding, then with; means of frames; the residual way is cut to fit."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv1d(3, 3, 3), nn.Conv1d(3, 4, 3, padding=1)
        self.mean = nn.AvgPool1d(3, stride=1, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.mean(self.b(self.a(x) + x[..., 1:-1]))


class Doubled(nn.Module):
    """Halved, doubled again, and joined with what was not."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Conv1d(3, 4, 2, stride=2), nn.ConvTranspose1d(4, 4, 2, stride=2)
        self.near, self.b = nn.Upsample(scale_factor=2), nn.Conv1d(11, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.down(x)
        return self.b(torch.cat([self.up(y), self.near(y), x], 1))


def walked(step: Network, feed: dict[str, Any]) -> dict[str, np.ndarray[Any, Any]]:
    """The outputs of a whole sequence, from steps of the network of one step alone and what its card says of them."""
    how = step.card.streaming
    assert how is not None
    axes = {spec.name: spec.shape.index(TIME) for spec in how.sequence.inputs if TIME in spec.shape}
    now = {name: step.example_inputs[name] for name in how.states}
    assert not any(value.any() for value in now.values())
    name, axis = next(iter(axes.items()))
    steps, rows = feed[name].shape[axis] // how.frames, []
    for n in range(steps + how.delay):
        if n >= steps:
            now[how.ended] = np.ones_like(now[how.ended])
        frames = range(n * how.frames, (n + 1) * how.frames) if n < steps else range(how.frames)  # then: whatever
        part = {key: value.take(frames, axes[key]) for key, value in feed.items()}
        with torch.no_grad():
            results = step.module(*(torch.from_numpy(value) for value in {**part, **now}.values()))
        outputs = {spec.name: r.numpy() for spec, r in zip(step.signature.outputs, results, strict=True)}
        now = {key: outputs.pop(after) for key, after in how.states.items()}
        rows.append(outputs)
    made = dict(rows[-1])
    for spec in how.sequence.outputs:
        if TIME in spec.shape:
            axis = spec.shape.index(TIME)
            whole = np.concatenate([row[spec.name] for row in rows], axis)
            made[spec.name] = whole.take(range(how.skipped.get(spec.name, 0), whole.shape[axis]), axis)
    return made


@pytest.mark.parametrize(
    ("module", "shape", "frames", "delay"),
    [
        (Causal, (1, 3, 20), 1, 0),
        (Temporal, (2, 3, 20), 1, 0),
        (Same, (1, 3, 20), 1, 4),
        (lambda: Crnn(1), (1, 20, 8), 2, 1),
        (lambda: Crnn(2, nn.LSTM), (1, 20, 8), 4, 1),
        (Strided, (1, 3, 20), 4, 1),
        (Narrow, (1, 3, 20), 1, 2),
        (Doubled, (2, 3, 20), 2, 1),
    ],
    ids=["causal", "temporal", "same", "crnn", "crnn-stride", "strided", "narrow", "doubled"],
)
def test_steps_make_the_sequence(
    module: Callable[[], nn.Module], shape: tuple[int, ...], frames: int, delay: int, network_of: NetworkOf
) -> None:
    torch.manual_seed(0)
    network = network_of(settled(module()), torch.randn(*shape))
    step = one_step(network)
    how = step.card.streaming
    assert how is not None and (how.frames, how.delay) == (frames, delay)
    axis = how.sequence.inputs[0].shape.index(TIME)
    assert step.signature.inputs[0].shape[axis] == frames
    for seed, steps in enumerate((40, 7)):
        size = tuple(steps * frames if k == axis else n for k, n in enumerate(shape))
        x = np.random.default_rng(seed).standard_normal(size).astype(np.float32)
        got = walked(step, {network.signature.inputs[0].name: x})
        with torch.no_grad():
            wanted = network.module(torch.from_numpy(x))
        values = [wanted] if isinstance(wanted, Tensor) else wanted
        for name, value in zip([spec.name for spec in network.signature.outputs], values, strict=True):
            assert got[name].shape == tuple(value.shape)
            assert np.abs(got[name] - value.numpy()).max() < TOLERANCE * max(1, float(value.abs().max()))


def test_the_states_are_what_a_layer_looks_back_at(network_of: NetworkOf) -> None:
    causal = one_step(network_of(settled(Causal()), torch.randn(1, 3, 20)))
    assert [str(spec) for spec in causal.signature.inputs] == [
        "x: float32[1, 3, 1]", "first.past: float32[1, 3, 4]", "second.past: float32[1, 4, 1]",
        "second.past_2: float32[1, 4, 1]",
    ]  # fmt: skip
    ahead = one_step(network_of(settled(Same()), torch.randn(1, 3, 20)))
    assert [str(spec) for spec in ahead.signature.inputs][1:] == [
        "stream.ended: float32[1, 1]", "stream.valid: float32[1, 2]", "a.past: float32[1, 3, 4]",
        "b.past: float32[1, 4, 3]", "stream.wait_1: float32[1, 4, 4]",
    ]  # fmt: skip
    assert ahead.card.streaming is not None
    assert ahead.card.streaming.ended == "stream.ended" and ahead.card.streaming.skipped == {"output": 4}


class Odd(nn.Module):
    """A convolution and something that looks at all frames, or pads with something else than zeros."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.what = what
        mode = what if what in ("reflect", "replicate", "circular") else "zeros"
        self.conv = nn.Conv1d(3, 4, 3, padding=1, padding_mode=mode)
        self.narrow = nn.Conv1d(4, 4, 3)
        self.attention, self.norm = nn.MultiheadAttention(4, 2, batch_first=True), nn.InstanceNorm1d(4)
        self.batch = nn.BatchNorm1d(4, track_running_stats=False)
        self.group, self.cell = nn.GroupNorm(2, 4), nn.GRUCell(4, 4)
        self.everything, self.peak = nn.AdaptiveAvgPool1d(1), nn.MaxPool1d(3, 1, padding=1)
        self.wide = nn.ConvTranspose1d(4, 4, 4, stride=2, padding=1)
        self.both = nn.GRU(4, 4, batch_first=True, bidirectional=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        rows = y.transpose(1, 2)
        match self.what:
            case "attention":
                return self.attention(rows, rows, rows)[0]
            case "sdpa":
                return functional.scaled_dot_product_attention(rows, rows, rows)
            case "softmax":
                return y * y.softmax(-1)
            case "flip":
                return y.flip(-1)
            case "first":
                return y[..., 0]
            case "few":
                return y[..., -3:]
            case "half":
                return y[..., y.shape[-1] // 2 :]
            case "mean":
                return y.mean(-1)
            case "join":
                return torch.cat([y, y], -1)
            case "ones":
                return self.narrow(torch.cat([torch.ones(1, 4, 2), y], -1))
            case "value":
                return self.narrow(functional.pad(y, (2, 0), value=1.0))
            case "normed-pad":
                return self.narrow(functional.pad(y, (2, 0)) + 1)
            case "loop":
                h, out = x.new_zeros(1, 4), []
                for row in rows.unbind(1):
                    h = self.cell(row, h)
                    out.append(h)
                return torch.stack(out, 1)
            case "both":
                return self.both(rows)[0]
        return getattr(self, self.what)(y) if hasattr(self, self.what) else y


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("attention", r"'attention' \(MultiheadAttention\).*all steps with each other"),
        ("sdpa", r"mixes the steps.*first to differ is scaled_dot_product_attention\(\)"),
        ("softmax", r"mixes the steps.*first to differ is softmax\(\)"),
        ("flip", r"mixes the steps.*first to differ is flip\(\)"),
        ("first", r"getitem\(\).* takes frames of the sequence other than its last one"),
        ("few", r"getitem\(\).* takes frames of the sequence other than its last one"),
        ("half", r"getitem\(\)"),
        ("mean", r"mixes the steps.*first to differ is mean\(\)"),
        ("join", r"joins the sequence with others along time"),
        ("ones", r"only zeros can stand before it"),
        ("value", r"pads the sequence with the value 1"),
        ("normed-pad", r"mixes the steps.*first to differ is 'narrow' \(Conv1d\)"),
        ("reflect", r"'conv' \(Conv1d\) pads the sequence with the mode 'reflect'"),
        ("replicate", r"'conv' \(Conv1d\) pads the sequence with the mode 'replicate'"),
        ("circular", r"'conv' \(Conv1d\) pads the sequence with the mode 'circular'"),
        ("norm", r"'norm' \(InstanceNorm1d\) does not take a single step"),
        ("batch", r"'batch' \(BatchNorm1d\) does not take a single step"),
        ("group", r"first to differ is 'group' \(GroupNorm\)"),
        ("everything", r"first to differ is 'everything' \(AdaptiveAvgPool1d\)"),
        ("peak", r"'peak' \(MaxPool1d\) takes the largest value of frames before the first one"),
        ("wide", r"first to differ is 'wide' \(ConvTranspose1d\)"),
        ("loop", r"loops over the steps that call cells have to be layers"),
        ("both", r"both \(GRU\) reads the sequence in both directions"),
    ],
)
def test_what_cannot_stream_is_refused_by_name(what: str, said: str, network_of: NetworkOf) -> None:
    with pytest.raises(UnsupportedError, match=f"'net' cannot be taken step by step: .*{said}.*without --streaming"):
        one_step(network_of(settled(Odd(what)), torch.randn(1, 3, 20)))


def test_of_two_axes_somebody_has_to_say_which_is_time(network_of: NetworkOf) -> None:
    network = network_of(nn.Conv2d(1, 2, 3, padding=1).eval(), torch.randn(1, 1, 12, 8))
    with pytest.raises(UnsupportedError, match=r"several axes; say which is time, by --dynamic input:2=time or"):
        one_step(network)
    for axis in (2, 3):
        how = one_step(network, time={"input": axis}).card.streaming
        assert how is not None and how.sequence.inputs[0].shape.index(TIME) == axis and how.delay == 1
