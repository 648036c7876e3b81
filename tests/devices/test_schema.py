"""What an answer may be: rules that take it or say where it is wrong, and what a device may call its errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgekit.devices import measures, rules, schema
from edgekit.devices.functions import COMMAND
from edgekit.devices.schema import REPLIES, Reply, check_outputs, check_signature, output_bytes
from edgekit.devices.worker import Worker
from edgekit.errors import DeviceError, EdgekitError, FeedError, ModelError
from edgekit.extras import cold, end_to_end, probe
from edgekit.extras.load import serve_here
from edgekit.extras.profile import profile_here
from edgekit.types import Card, Signature, Task, TensorSpec

NESTED: Any = []
for _ in range(500):
    NESTED = [NESTED]
X, Y = TensorSpec("x", "float32", ("batch", 4)), TensorSpec("y", "float32", ("batch", 3))
FEED = {"x": np.ones((2, 4), np.float32)}


@pytest.mark.parametrize(
    ("rule", "value", "said"),
    [
        (rules.whole(), True, "value is true, wanted a whole number from 0"),
        (rules.whole(), 1.0, "value is 1.0, wanted a whole number"),
        (rules.whole(), -1, "value is -1"),
        (rules.whole(), int("9" * 4000), "a number of too many digits, wanted a whole number"),
        (rules.number(), float("inf"), "value is inf, wanted a number"),
        (rules.number(), float("nan"), "value is nan, wanted a number"),
        (rules.number(0, 1), "1", "value is '1', wanted a number from 0 to 1"),
        (rules.text(3), "four", "value is 'four', wanted a text of at most 3 characters"),
        (rules.text(), "x" * 1_000_000, "wanted a text of at most 4,096 characters"),
        (rules.flag, 1, "value is 1, wanted true or false"),
        (rules.rows(rules.whole()), {}, "value is an object, wanted a list"),
        (rules.rows(rules.whole(), 1), [1, 2], "wanted a list of at most 1"),
        (rules.rows(rules.whole()), [1, None], r"value\[1\] is null, wanted a whole number"),
        (rules.table(rules.text()), [], "value is a list, wanted an object"),
        (rules.record(a=rules.whole()), {}, "value.a is missing"),
        (rules.record(a=rules.record(b=rules.whole())), {"a": {"b": NESTED}}, "value.a.b is a list"),
        (rules.either(rules.whole(), rules.text(9)), None, "value is null, wanted a text"),
    ],
)  # fmt: skip
def test_what_is_not_wanted_is_refused_with_its_place(rule: rules.Rule, value: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        rule(value, "value")
    assert len(str(caught.value)) < 300


def test_only_what_is_named_comes_through() -> None:
    rule = rules.record({"b": rules.whole(), "c": rules.whole()}, a=rules.maybe(rules.whole()))
    assert rule({"a": None, "b": 2, "deep": NESTED}, "value") == {"a": None, "b": 2}


def test_every_command_of_a_worker_has_its_answer() -> None:
    plain = {"forget", "wait", "reset"}  # answered by nothing
    assert set(Worker().commands) == set(REPLIES) | plain | {COMMAND}


@pytest.mark.parametrize("name", ["GateError", "UsageError", "InconclusiveError", "ConversionError", "OSError", ""])
def test_a_device_chooses_no_exit_code(name: str) -> None:
    functions = [serve_here, measures.transfer, cold.optimize, end_to_end.stages, probe.weights, profile_here]
    for reply in [*REPLIES.values(), *(function.reply for function in functions)]:
        assert reply.error(name) is DeviceError
        assert {kind.exit_code for kind in reply.raises} <= {3}
    assert REPLIES["load"].error("ModelError") is ModelError and REPLIES["run"].error("FeedError") is FeedError
    assert REPLIES["environment"].error("ModelError") is DeviceError
    assert all(issubclass(kind, EdgekitError) and kind.exit_code == 4 for kind in schema.ALWAYS)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({}, "brings the arrays none, wanted a"),
        ({"a": np.ones(2, np.int64), "b": np.ones(2, np.int64)}, "wanted a$"),
        ({"a": np.ones(2)}, r"float64\[2\], wanted at most 4 nanoseconds"),
        ({"a": np.ones((2, 1), np.int64)}, r"int64\[2, 1\]"),
        ({"a": np.ones(5, np.int64)}, "wanted at most 4"),
        ({"a": np.array([-1, 5])}, "holds -1 to 5 ns, wanted 1 to 1,000"),
        ({"a": np.array([1, 1001])}, "holds 1 to 1,001 ns"),
        ({"a": np.zeros(3, np.int64)}, "holds 0 to 0 ns"),
        ({"a": np.zeros(0, np.int64)}, "wanted 1 or more"),
    ],
)
def test_times_that_are_none(arrays: dict[str, np.ndarray], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Reply(times=("a",), least_ns=1, most=4).check_times(arrays, 1000)


def test_times_of_the_same_runs_are_as_many() -> None:
    serve = serve_here.reply
    serve.check_times({"latency_ns": np.array([5, 6]), "service_ns": np.array([1, 2])}, 1000)
    with pytest.raises(ValueError, match=r"\[1, 2\] in number"):
        serve.check_times({"latency_ns": np.array([5, 6]), "service_ns": np.array([1])}, 1000)


def card(*outputs: TensorSpec) -> Card:
    return Card("m", "custom", Task(), Signature((X,), outputs))


@pytest.mark.parametrize(
    ("signature", "said"),
    [
        (Signature((X, X), (Y,)), "two inputs are called 'x'"),
        (Signature((X,), (Y, Y)), "two outputs are called 'y'"),
        (Signature((TensorSpec("image", "float32", ("batch", 4)),), (Y,)), "the card has x: float32"),
        (Signature((TensorSpec("x", "float64", ("batch", 4)),), (Y,)), "the card has x: float32"),
        (Signature((TensorSpec("x", "float32", ("batch", 5)),), (Y,)), "the card has x: float32"),
        (Signature((TensorSpec("x", "float32", (4,)),), (Y,)), "the card has x: float32"),
        (Signature((X,), ()), "the outputs are , the card has y"),
    ],
)
def test_signatures_of_another_file(signature: Signature, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        check_signature(signature, card(Y))


def test_an_input_that_fits_into_no_memory() -> None:
    huge = TensorSpec("x", "float32", (1 << 31, 1 << 31))
    with pytest.raises(ValueError, match="EDGEKIT_LIMIT_INPUT_BYTES allows less"):
        check_signature(Signature((huge,), (Y,)), None)


def test_signatures_of_the_file() -> None:
    check_signature(Signature((X,), (Y,)), card(Y))
    check_signature(Signature((X,), (Y,)), None)
    fixed, integer = TensorSpec("x", "float32", (1, 4)), TensorSpec("y", "int8", ("batch", 3))
    check_signature(Signature((fixed,), (integer,)), card(Y))  # of a fixed file, and of one that is run raw


@pytest.mark.parametrize(
    ("found", "fits"),
    [
        (np.ones((2, 3), np.float32), True),
        (np.ones((7, 3), np.float32), True),  # a free axis
        (np.ones((2, 4), np.float32), False),
        (np.ones(3, np.float32), False),
        (np.ones((2, 3), np.float64), False),
    ],
)
def test_outputs_against_the_signature(found: np.ndarray, fits: bool) -> None:
    signature = Signature((X,), (Y,))
    if fits:
        check_outputs({"y": found}, signature, FEED, named=False)
        return
    with pytest.raises(ValueError, match="the signature says y: float32"):
        check_outputs({"y": found}, signature, FEED, named=False)


def test_outputs_of_files_that_say_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """An output without a rank, and the batch of the exporter's example."""
    unknown, example = TensorSpec("y", "float32", ()), TensorSpec("y", "float32", (1, 3))
    check_outputs({"y": np.ones((2, 3, 4), np.float32)}, Signature((X,), (unknown,)), FEED, named=False)
    check_outputs({"y": np.ones((2, 3), np.float32)}, Signature((X,), (example,)), FEED, named=False)
    with pytest.raises(ValueError, match="the signature says"):
        check_outputs({"y": np.ones((5, 3), np.float32)}, Signature((X,), (example,)), FEED, named=False)
    assert output_bytes(Signature((X,), (example,)), FEED) == 2 * 3 * 4
    monkeypatch.setenv("EDGEKIT_LIMIT_REPLY_ARRAY_BYTES", "1000")
    assert output_bytes(Signature((X,), (unknown,)), FEED) == 1000


@pytest.mark.parametrize(
    ("arrays", "said"), [({}, "the arrays none, wanted y"), ({"y": FEED["x"], "z": FEED["x"]}, "wanted y")]
)
def test_outputs_by_other_names(arrays: dict[str, np.ndarray], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        check_outputs(arrays, Signature((X,), (Y,)), FEED, named=False)


def test_what_a_card_names_means_the_same_in_inputs_and_outputs() -> None:
    """Without one a runtime's name of a nameless dimension may stand for the number of objects that were found."""
    signature, found = Signature((X,), (Y,)), {"y": np.ones((7, 3), np.float32)}
    check_outputs(found, signature, FEED, named=False)
    with pytest.raises(ValueError, match="the signature says y"):
        check_outputs(found, signature, FEED, named=True)
    check_outputs({"y": np.ones((2, 3), np.float32)}, signature, FEED, named=True)


def test_outputs_of_the_exporters_example(monkeypatch: pytest.MonkeyPatch) -> None:
    """A TFLite file with a free height gives an output the sizes of the example that it was made with."""
    signature = Signature((TensorSpec("x", "float32", (1, "h")),), (TensorSpec("y", "float32", (1, 4)),))
    feed = {"x": np.ones((1, 9), np.float32)}
    check_outputs({"y": np.ones((1, 7), np.float32)}, signature, feed, named=False)
    for wrong in (np.ones(7, np.float32), np.ones((1, 7), np.float64)):
        with pytest.raises(ValueError, match="the signature says"):
            check_outputs({"y": wrong}, signature, feed, named=False)
    with pytest.raises(ValueError, match="the signature says"):  # of a card, which knows better
        check_outputs({"y": np.ones((1, 7), np.float32)}, signature, feed, named=True)
    monkeypatch.setenv("EDGEKIT_LIMIT_REPLY_ARRAY_BYTES", "1000")
    assert output_bytes(signature, feed) == 1000
