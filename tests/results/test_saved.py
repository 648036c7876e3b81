"""Saved documents are read back as the results that they are; what is none is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgekit.errors import InputError
from edgekit.report.document import envelope
from edgekit.results.bench import BenchRecord
from edgekit.results.compare import CompareResult, Comparison
from edgekit.results.eval import Confusion, Curve, EvalResult, Evaluation
from edgekit.results.proof import CaseResult, Ledger, VerifyResult
from edgekit.results.saved import from_json, read_result
from edgekit.types import Verdict

EVALUATED = EvalResult(
    model=Path("m.onnx"), sha256="0" * 64, split="test", runtime="onnxruntime", device="cpu",
    evaluation=Evaluation(
        "accuracy", 0.5, 10, "digits@test", 5, {"a": 0.25, "b": 0.75},
        confusion=Confusion(classes=("a", "b"), counts=((1, 3), (1, 5))),
        curves=(Curve(kind="roc", name="a", points=((0.0, 0.0), (1.0, 1.0))),),
    ),
)  # fmt: skip
NOT_SQUARE = {"classes": ["a"], "counts": []}
CASE = CaseResult(kind="random", max_abs=1e-6, limit=1e-4, cosine=1.0, output="y", passed=True)
SELF_TEST = CaseResult(kind="self-test", max_abs=1e-6, limit=1e-3, cosine=1.0, output="y", passed=True)
VERIFIED = VerifyResult(
    model=Path("m.onnx"), sha256="", against="mlp", runtime="onnxruntime", device="cpu", notes=(),
    ledger=Ledger(cases=(CASE,), scale={"y": 1.0}), selftest=SELF_TEST,
)  # fmt: skip
COMPARED = CompareResult(
    comparisons=(Comparison(a="a", b="b", ratio_p50=1.2, ci95=(1.1, 1.3), verdict=Verdict.SLOWER, method="paired"),),
    fail_slower=5.0,
)


@pytest.mark.parametrize(("verb", "result"), [("eval", EVALUATED), ("verify", VERIFIED), ("compare", COMPARED)])
def test_what_is_read_back_says_the_same(verb: str, result: Any) -> None:
    document = json.loads(json.dumps(envelope(verb, result.document(), ("edgekit", verb, "m.onnx"))))
    read = from_json(document, "it.json")
    assert type(read.result) is type(result)
    assert read.result.document() == result.document()
    assert (read.verb, read.command, read.origin) == (verb, ("edgekit", verb, "m.onnx"), "it.json")
    assert read.environment == document["environment"]
    assert repr(read.result.failure()) == repr(result.failure())


def test_a_document_of_a_version_without_commands() -> None:
    read = from_json({"schema": "edgekit.bench/1", "results": []}, "it")
    assert (read.result, read.command, read.environment) == (BenchRecord(results=()), (), {})


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('{"schema": "edgekit.bench/1", "results": [', "cannot be read as JSON"),
        ("[]", "is not a result of edgekit: it is a list, a table was expected"),
        ('{"a": 1}', "is not a result of edgekit: it has no 'schema'"),
        ('{"schema": "edgekit.bench/2", "results": []}', "has the schema 'edgekit.bench/2'; those are read: edgekit.b"),
        ('{"schema": "edgekit.brew/1"}', "has the schema 'edgekit.brew/1'"),
        ('{"schema": 3}', "it.schema is 3, a text was expected"),
        ('{"schema": "edgekit.bench/1"}', "is not a result of bench: it has no 'results'"),
        ('{"schema": "edgekit.bench/1", "results": NaN}', "NaN is not a number of JSON"),
        (
            json.dumps(
                {"schema": "edgekit.eval/1", **EVALUATED.document(), "confusion": {"classes": ["a"], "counts": []}}
            ),
            "a confusion matrix of 1 classes has as many rows and columns",
        ),
        ('{"schema": "edgekit.eval/1", "model": "m"}', "is not a result of eval: it has no"),
    ],
)
def test_what_is_no_document_is_refused(text: str, wanted: str, tmp_path: Path) -> None:
    (tmp_path / "it.json").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"it\.json") as refused:
        read_result(tmp_path / "it.json")
    assert wanted in str(refused.value)
