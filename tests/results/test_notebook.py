"""Results in notebooks, and a real notebook that trains, exports and measures."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from edgekit import errors
from edgekit.results import notebook
from edgekit.results.base import Result
from edgekit.results.eval import EvalResult, Evaluation

DOCUMENT = {"name": "<b>", "share": 0.123456789, "rows": [{"p50": {"ms": 1.5}, "file": "a"}, {"file": "b"}]}


def test_rows_of_a_frame_are_the_entries() -> None:
    frame = notebook.frame(DOCUMENT, "rows")
    assert list(frame["file"]) == ["a", "b"]
    assert frame["p50.ms"][0] == 1.5
    assert notebook.frame(DOCUMENT, "")["name"].tolist() == ["<b>"]


def test_pandas_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(errors.RuntimeMissingError, match="pip install pandas"):
        notebook.frame(DOCUMENT, "rows")


def test_html_is_escaped_and_cut() -> None:
    text = notebook.as_html("Title", DOCUMENT, "rows")
    assert "<td>&lt;b&gt;</td>" in text and "<td>0.123457</td>" in text and "<th>p50.ms</th>" in text
    many = {"rows": [{"n": k} for k in range(25)]}
    assert "5 more rows" in notebook.as_html("Title", many, "rows")
    assert "x" * 79 + "…" in notebook.as_html("Title", {"long": "x" * 200}, "")


def test_a_result_is_one_line() -> None:
    result = EvalResult(
        model=Path("m.onnx"), sha256="0" * 64, split="test", runtime="onnxruntime", device="cpu",
        evaluation=Evaluation("accuracy", 0.5, 10, "digits@test"),
    )  # fmt: skip
    assert repr(result).startswith("EvalResult(model='m.onnx', ") and "\n" not in repr(result)
    assert result.to_frame()["value"][0] == 0.5


def test_every_result_has_the_short_form() -> None:
    """A dataclass writes a ``__repr__`` of its own where it is not told otherwise."""

    def below(kind: type) -> list[type]:
        return [kind, *(one for sub in kind.__subclasses__() for one in below(sub))]

    import edgekit.pipeline.bench.result
    import edgekit.pipeline.recipe.result  # noqa: F401  # they are subclasses, too

    kinds = [kind for kind in below(Result) if kind.__module__.startswith("edgekit")]
    assert len(kinds) > 15
    assert {kind.__repr__ for kind in kinds} == {Result.__repr__}


@pytest.mark.slow
def test_a_notebook_shows_progress_and_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import nbclient
    import nbformat

    cells = [
        "import edgekit",
        "trained = edgekit.train('mlp', data='breast-cancer', epochs=2, out='net.safetensors')",
        "edgekit.export('net.safetensors', to=['onnx'], out='build')",
        "edgekit.evaluate('build/mlp.onnx', data='breast-cancer').to_frame()[['metric', 'total']]",
    ]
    document = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in cells])
    monkeypatch.chdir(tmp_path)
    nbclient.NotebookClient(document, timeout=120, kernel_name="python3").execute()
    told = ["".join(out.get("text", "") for out in cell.outputs) for cell in document.cells]
    assert "edgekit: epoch 1 of 2" in told[1]
    assert "edgekit: converting mlp to onnx" in told[2] and "edgekit: proving mlp.onnx" in told[2]
    shown = [out.data["text/html"] for cell in document.cells for out in cell.outputs if "data" in out]
    assert "ExportResult" in shown[0] and "mlp.onnx" in shown[0]
    assert "accuracy" in shown[1]
