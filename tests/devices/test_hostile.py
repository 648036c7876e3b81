"""Devices that speak the protocol wrongly: each ends in a typed error, in time, with the exit code of the contract."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from edgekit.errors import EdgekitError, ProtocolError

sys.path.insert(0, str(Path(__file__).parent))
import hostile_runs

sys.path.pop(0)

CATALOGUE = dict(hostile_runs.catalogue())
QUICK = [name for name in CATALOGUE if ": " not in name or name.split(": ")[0] in ("times", "ssh", "stages", "serve")]
"""All that is not a wrong value of an otherwise honest answer."""
FIRST = list({CATALOGUE[name].command: name for name in reversed(CATALOGUE) if name not in QUICK}.values())
"""One wrong value a command; the others are as many again and show the same."""
TYPED = [
    "a header of 100,000 lists",
    "the error 'GateError'",
    "an error message of lines and escapes",
    "times: zeros",
    "storage: free_bytes 1e+300",
    "profile: types [{}]",
    "load: signature.inputs.0.shape [2147483648, 2147483648]",
    "ssh: escapes",
    "words after its end",
]  # fmt: skip
"""What is seen through the command line here; a fuzzer sees all of them."""


def met(name: str, folder: Path) -> BaseException | None:
    behaviour = CATALOGUE[name]
    timeout_s = 0.7 if behaviour.silent else 30.0
    began = time.monotonic()
    error = hostile_runs.meet(behaviour, folder, timeout_s)
    assert time.monotonic() - began < timeout_s + 30, "the device decides how long is waited"
    return error


@pytest.mark.parametrize("name", [*QUICK, *FIRST])
def test_it_ends_in_a_typed_error(name: str, tmp_path: Path) -> None:
    error = met(name, tmp_path)
    if CATALOGUE[name].harmless:
        assert error is None
        return
    assert isinstance(error, EdgekitError), error
    assert error.exit_code in CATALOGUE[name].codes and len(str(error)) < 3000


@pytest.mark.slow
def test_every_wrong_value_is_a_protocol_error(tmp_path: Path) -> None:
    for name in sorted(set(CATALOGUE) - {*QUICK, *FIRST}):
        assert type(met(name, tmp_path)) is ProtocolError, name


def test_there_are_more_than_a_hundred() -> None:
    assert len(CATALOGUE) > 250 and len(QUICK) > 100 and len(FIRST) > 15


@pytest.mark.parametrize("name", TYPED)
def test_it_ends_in_a_typed_error_of_the_command_line(name: str, tmp_path: Path, edgekit_program: str) -> None:
    outcome = hostile_runs.run(CATALOGUE[name], tmp_path, edgekit=edgekit_program)
    assert outcome.faults == [], outcome.err.decode()


def test_an_honest_one_works(tmp_path: Path, edgekit_program: str) -> None:
    """The answers of the catalogue are those of a worker: what is found in the others is what was done to them."""
    honest = hostile_runs.Behaviour("honest", "nothing", lambda header, body: b"", codes=(0,))
    assert hostile_runs.meet(honest, tmp_path, 30.0) is None
    outcome = hostile_runs.run(honest, tmp_path, edgekit=edgekit_program)
    assert outcome.faults == [] and b"measured on python:" in b" ".join(outcome.out.split())


def test_the_signature_of_a_file_with_a_card_is_the_cards(tmp_path: Path) -> None:
    """A device that names another input would have the user's own data refused."""
    from edgekit.artifact import write_card
    from edgekit.devices import open_runner
    from edgekit.types import Card, Signature, Task, TensorSpec

    script = hostile_runs.program(CATALOGUE["words after its end"], tmp_path)
    (tmp_path / "m.onnx").write_bytes(hostile_runs.MODEL)
    specs = (TensorSpec("image", "float32", (1, 4)),), (TensorSpec("y", "float32", (1, 4)),)
    artifact = write_card(tmp_path / "m.onnx", Card("m", "custom", Task(), Signature(*specs)), tmp_path / "c.onnx")
    with pytest.raises(ProtocolError, match="the inputs are x: float32"):
        open_runner(artifact.path, device=f"python:{script}")
