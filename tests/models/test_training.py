"""The training loop: learns, is the same every time, goes on after a kill, and says when it diverges."""

import logging
import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace

import numpy as np
import pytest
import torch

from edgekit.data import Dataset, open_data
from edgekit.errors import DataError, DeviceError, GateError, UsageError
from edgekit.models.augment import crop_and_flip, padded, padding_for
from edgekit.models.checkpoint import weights_sha256
from edgekit.models.family import Hyperparameters, family, new_network
from edgekit.models.training import fit, one_cycle

QUICK = Hyperparameters(epochs=3, batch=64, lr=0.1, average=0.9, augment="shift", validation=0.1)


@pytest.fixture(scope="module")
def digits():
    return open_data("digits@train").subset(np.arange(300))


def fresh(data, seed=0):
    torch.manual_seed(seed)
    return new_network("cnn", data, {"width": 8, "blocks": (1, 1)})


def digest(network):
    return weights_sha256(network.module.state_dict())


def test_it_learns(digits):
    network = fresh(digits)
    seen = []
    result = fit(network, digits, replace(QUICK, epochs=8, batch=16), progress=lambda *row: seen.append(row))
    assert result.validation_score > 0.6  # chance is 0.1
    assert [row[:2] for row in seen] == [(k, 8) for k in range(1, 9)]
    assert seen[-1][2] < seen[0][2]
    assert (result.samples, result.validation_samples) == (270, 30)
    assert not network.module.training


def test_the_same_seed_gives_the_same_weights_and_another_does_not(digits):
    first, second, other = fresh(digits), fresh(digits), fresh(digits)
    for network, seed in ((first, 0), (second, 0), (other, 1)):
        fit(network, digits, replace(QUICK, seed=seed))
    assert digest(first) == digest(second) != digest(other)


class Killed(BaseException):
    pass


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_run_that_was_stopped_ends_with_the_same_weights(digits, tmp_path, optimizer, caplog):
    options = replace(QUICK, epochs=4, optimizer=optimizer, lr=0.01)
    whole = fresh(digits)
    fit(whole, digits, options)

    def stop(epoch, *_):
        if epoch == 2:
            raise Killed

    state = tmp_path / "run.safetensors"
    with pytest.raises(Killed):
        fit(fresh(digits), digits, options, state=state, progress=stop)
    assert state.exists()
    resumed = fresh(digits, seed=5)  # other initial weights: they must not matter
    with caplog.at_level(logging.INFO, "edgekit"):
        result = fit(resumed, digits, options, state=state)
    assert "resuming after epoch 2" in caplog.text
    assert result.epochs_run == 2
    assert digest(resumed) == digest(whole)
    assert not state.exists()


def test_the_state_of_another_run_is_not_used(digits, tmp_path, caplog):
    state = tmp_path / "run.safetensors"

    def stop(*_):
        raise Killed

    with pytest.raises(Killed):
        fit(fresh(digits), digits, QUICK, state=state, progress=stop)
    with caplog.at_level(logging.INFO, "edgekit"):
        assert fit(fresh(digits), digits, replace(QUICK, lr=0.05), state=state).epochs_run == 3
    assert "other settings" in caplog.text
    with pytest.raises(Killed):
        fit(fresh(digits), digits, QUICK, state=state, progress=stop)
    torch.manual_seed(0)
    wider = new_network("cnn", digits, {"width": 16, "blocks": (1, 1)})
    assert fit(wider, digits, QUICK, state=state).epochs_run == 3
    state.write_bytes(b"damaged")
    assert fit(fresh(digits), digits, QUICK, state=state).epochs_run == 3


def test_killed_for_real_and_started_again(tmp_path):
    """SIGKILL in the middle: the same command goes on, and the half-done run published nothing."""
    code = textwrap.dedent("""
        import os, signal, sys
        from edgekit.pipeline.train import train
        def progress(epoch, *rest):
            print(epoch, flush=True)
            if epoch == 2 and len(sys.argv) > 1: os.kill(os.getpid(), signal.SIGKILL)
        train("mlp", data="breast-cancer", epochs=4, out="m.safetensors", progress=progress)
    """)
    run = [sys.executable, "-c", code]
    killed = subprocess.run([*run, "kill"], cwd=tmp_path, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL
    assert sorted(os.listdir(tmp_path)) == ["m.resume.safetensors"]
    again = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True)
    assert again.stdout.split() == ["3", "4"]
    assert sorted(os.listdir(tmp_path)) == ["m.safetensors"]


def test_divergence_is_said(digits):
    with pytest.raises(GateError, match="training diverged: the loss of epoch 1 is"):
        fit(fresh(digits), digits, replace(QUICK, lr=1e20))


def test_a_teacher_is_followed(digits):
    teacher = fresh(digits)
    fit(teacher, digits, replace(QUICK, epochs=10))
    frozen = digest(teacher)
    random_labels = replace(digits, labels=np.random.default_rng(0).integers(0, 10, len(digits)))
    student = fresh(digits, seed=1)
    fit(student, random_labels, replace(QUICK, epochs=10, distil=1.0, validation=0.0), teacher=teacher)
    images = torch.from_numpy(np.array(digits.arrays["image"])).permute(0, 3, 1, 2).float() / 64 - 1
    with torch.no_grad():
        agree = (student.module(images).argmax(1) == teacher.module(images).argmax(1)).float().mean()
    assert agree > 0.5  # labels are noise and weigh nothing: it can only have learned from the teacher
    assert digest(teacher) == frozen


def test_senseless_options(digits):
    for bad in ({"epochs": 0}, {"batch": 0}, {"lr": 0.0}, {"validation": 1.0}, {"distil": 2.0}):
        with pytest.raises(UsageError):
            fit(fresh(digits), digits, replace(QUICK, **bad))
    with pytest.raises(UsageError, match="cpu or cuda"):
        fit(fresh(digits), digits, QUICK, device="tpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU: the refusal cannot be shown")
def test_cuda_where_there_is_none(digits):
    with pytest.raises(DeviceError, match="no CUDA device"):
        fit(fresh(digits), digits, QUICK, device="cuda")


def test_learning_rate_rises_and_falls():
    options = Hyperparameters(lr=1.0, warmup=0.2)
    rates = [one_cycle(p, options) for p in np.linspace(0, 1, 101)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[20] == pytest.approx(1.0)
    assert rates[-1] == pytest.approx(1e-3)
    assert all(np.diff(rates[20:]) <= 0)


def test_crops_move_and_flips_mirror():
    images = torch.arange(2 * 4 * 4, dtype=torch.uint8).reshape(2, 4, 4, 1)
    wide = padded(images, 1)
    assert wide.shape == (2, 6, 6, 1)
    assert wide[0, 0, 1:-1, 0].tolist() == images[0, 1, :, 0].tolist()  # reflected, the edge not repeated
    torch.testing.assert_close(wide[:, 1:-1, 1:-1], images)
    generator = torch.Generator().manual_seed(0)
    crops = torch.cat([crop_and_flip(wide, (4, 4), True, generator) for _ in range(50)])
    every = {wide[0, t : t + 4, u : u + 4].numpy().tobytes() for t in range(3) for u in range(3)}
    every |= {wide[0, t : t + 4, u : u + 4].flip(1).contiguous().numpy().tobytes() for t in range(3) for u in range(3)}
    seen = {crop.contiguous().numpy().tobytes() for crop in crops[::2]}
    assert seen <= every
    assert len(seen) > 10  # of 18
    assert padding_for("", 32) == 0
    assert padding_for("shift", 32) == 4


def test_sizes_that_differ_are_brought_to_one():
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (6 + k % 3, 8, 3), np.uint8) for k in range(24)]
    data = Dataset("d", "all", "image", {"image": images}, np.arange(24) % 2, ("a", "b"))
    network = new_network("cnn", data, {"width": 8, "blocks": (1,)})
    assert fit(network, data, replace(QUICK, epochs=1, augment="auto")).samples > 0
    assert family("cnn").options.augment == "auto"


def test_two_processes_train_one_network(tmp_path):
    """In a program of its own: each process imports the main module again."""
    code = textwrap.dedent("""
        from dataclasses import replace
        import numpy as np, torch
        from edgekit.data import open_data
        from edgekit.errors import EdgekitError
        from edgekit.models.checkpoint import weights_sha256
        from edgekit.models.family import Hyperparameters, new_network
        from edgekit.models.training import fit
        if __name__ == "__main__":
            data = open_data("breast-cancer@train")
            options = Hyperparameters(epochs=5, batch=32, lr=0.01, optimizer="adamw", validation=0.15, processes=2)
            for seed in (0, 0, 1):
                torch.manual_seed(0)
                network = new_network("mlp", data)
                result = fit(network, data, replace(options, seed=seed))
                print(result.best_epoch > 0, result.validation_score, weights_sha256(network.module.state_dict()))
            try:
                fit(new_network("mlp", data), data, replace(options, lr=1e30))
            except EdgekitError as error:
                print(type(error).__name__, error)
    """)
    (tmp_path / "two.py").write_text(code)
    done = subprocess.run([sys.executable, "two.py"], cwd=tmp_path, capture_output=True, text=True)
    first, second, other, diverged = done.stdout.splitlines()[-4:]
    assert float(first.split()[1]) > 0.8  # chance is 0.63
    assert first == second != other
    assert diverged.startswith("GateError training diverged")
    assert done.stderr.count("epoch 5 of 5") == 3  # the first process of each run tells


def test_data_of_another_shape_are_named_and_an_error_of_the_network_is_its_own(monkeypatch):
    labels, rng = np.arange(40) % 2, np.random.default_rng(0)
    wide, narrow = (
        Dataset("d", "all", "table", {"table": rng.normal(size=(40, n))}, labels, ("a", "b"), tuple("wxyz")[:n])
        for n in (4, 2)
    )
    network = new_network("mlp", wide)
    network = replace(network, card=replace(network.card, contract={}))
    with pytest.raises(DataError, match=r"d@all has samples of shape \(2,\), the network takes \(4,\).*its shape"):
        fit(network, narrow, QUICK)
    monkeypatch.setattr(network.module, "forward", lambda x: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        fit(network, wide, QUICK)
