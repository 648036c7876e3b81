"""Proposals: the same for the same seed, whoever works on them, and none twice."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from edgekit.environments import EXECUTORCH
from edgekit.errors import UsageError
from edgekit.options.optimize import OptimizeOptions
from edgekit.pipeline.recipe.plan import make_plan
from edgekit.pipeline.search.candidate import Candidate, Groups, Making
from edgekit.pipeline.search.sources import formats_of
from edgekit.pipeline.search.space import Space, schemes_of
from edgekit.pipeline.search.study import Claim, SamplerChoice, Study
from edgekit.recipe import parse_recipe
from edgekit.results.base import to_json
from edgekit.results.optimize import Evidence, TrialRow

SPACE = Space(
    {"onnx": ("float", "int8", "int8-dynamic"), "tflite": ("float", "int8", "fp16")},
    slow={"tflite": "HARD_SWISH"},
    depth=0.5,
    widths={"all": 0.8, "early": 0.3, "late": 0.6},
    epochs=(1, 4),
    qat=True,
    groups=Groups({"early": ("a", "b"), "late": ("c",)}),
)


def opened(folder: Path, space: Space = SPACE, **how: object) -> Study:
    choice = {"sampler": "tpe", "seed": 3, "batch": 4} | how
    return Study(folder, {"what": "test"}, space, SamplerChoice(**choice))  # type: ignore[arg-type]


def ended(study: Study, claim: Claim) -> None:
    """Ends a trial with figures that follow from what was proposed."""
    kept = claim.candidate
    ratio = 1.0 - 0.4 * (kept.scheme == "int8") - 0.3 * sum(kept.widths.values()) - 0.2 * kept.depth
    drop = 0.01 * (kept.scheme != "float") + 0.05 * sum(kept.widths.values()) ** 2
    shown = Evidence(device="cpu", runtime="litert", threads=1, shortest_ms=ratio, ratio=ratio, drop=drop)
    row = TrialRow(number=claim.number, name=kept.name, parameters=to_json(kept), state="complete", evidence=(shown,))
    study.tell(claim, (drop, ratio, ratio / 2), row, drop - 0.01)


def worked(studies: list[Study], limit: int) -> list[Candidate]:
    """All trials, the studies taking turns; what was proposed, in the order of the trials."""
    found: dict[int, Candidate] = {}
    while not all(study.finished(limit) for study in studies):
        claims = [(study, claim) for study in studies if (claim := study.claim(limit)) is not None]
        for study, claim in reversed(claims):  # the last that began ends first
            found[claim.number] = claim.candidate
            ended(study, claim)
    return [found[number] for number in sorted(found)]


def test_what_is_proposed_does_not_hang_on_who_works(tmp_path: Path) -> None:
    alone = worked([opened(tmp_path / "one")], 20)
    both = worked([opened(tmp_path / "two"), opened(tmp_path / "two")], 20)
    assert alone == both and len(alone) == 20
    assert worked([opened(tmp_path / "other", seed=4)], 20) != alone


def test_a_trial_that_was_given_up_is_taken_again(tmp_path: Path) -> None:
    whole = worked([opened(tmp_path / "whole")], 12)
    study, found = opened(tmp_path / "cut"), dict[int, Candidate]()
    for k in range(30):
        claim = study.claim(12)
        if claim is None:
            break
        if k % 3 == 2:  # the process dies: its lock goes, its trial stays open
            os.close(claim.handle)
            study = opened(tmp_path / "cut")
            continue
        found[claim.number] = claim.candidate
        ended(study, claim)
    assert [found[number] for number in sorted(found)] == whole


def test_a_trial_that_somebody_works_on_is_left_to_him(tmp_path: Path) -> None:
    first, second = opened(tmp_path / "s", batch=1), opened(tmp_path / "s", batch=1)
    claim = first.claim(9)
    assert claim is not None and second.claim(9) is None and not second.finished(9)
    ended(first, claim)
    following = second.claim(9)
    assert following is not None and following.number == claim.number + 1


def test_more_trials_go_on_with_a_study(tmp_path: Path) -> None:
    worked([opened(tmp_path / "s")], 8)
    assert len(worked([opened(tmp_path / "s")], 12)) == 4
    assert worked([opened(tmp_path / "s")], 12) == []


def test_nothing_is_tried_twice_and_an_end_is_found(tmp_path: Path) -> None:
    small = Space({"onnx": ("int8", "fp16")})
    found = worked([opened(tmp_path / "s", small)], 50)
    assert len(found) == len({to_text(one) for one in found}) == 7  # four ways to find ranges, two mixed, and fp16


def to_text(candidate: Candidate) -> str:
    return str(to_json(candidate))


def test_another_study_is_not_gone_on_with(tmp_path: Path) -> None:
    opened(tmp_path / "s")
    with pytest.raises(UsageError, match="holds a study of another source"):
        Study(tmp_path / "s", {"what": "other"}, SPACE, SamplerChoice("tpe", 0, 4))


def test_int8_of_every_format_comes_first_and_then_smaller_networks(tmp_path: Path) -> None:
    first = worked([opened(tmp_path / "s")], 6)
    assert [(one.format, one.scheme, one.keep_float) for one in first[:3]] == [
        ("onnx", "int8", ""), ("tflite", "int8", "HARD_SWISH"), ("tflite", "int8", "")]  # fmt: skip
    assert all(one.widths and one.epochs and one.scheme == "int8" for one in first[3:6])
    random = worked([opened(tmp_path / "r", sampler="random")], 6)
    assert random != first


def test_a_program_for_executorch_is_quantized_from_a_pt2_and_by_its_own_ranges(tmp_path: Path) -> None:
    space = Space({"pte": ("float", *schemes_of("pte"))}, slow={"pte": ""}, qat=True, epochs=(1,), widths={"all": 0.5})
    found = worked([opened(tmp_path / "s", space, sampler="random")], 20)
    assert {one.scheme for one in found} == {"float", "int8"}
    making = Making("cnn", OptimizeOptions("cnn", data="digits", out=tmp_path), space.groups, lr=0.02)
    for one in found:
        assert (one.calibration, one.mixed, one.qat, one.keep_float) == ("", 0.0, False, "")
        plan = make_plan(*parse_recipe(making.recipe(one), tmp_path / "recipe.toml"))
        assert plan.problems == [] and plan.runs[-1].suffix == ".pte"
        exported = next(run for run in plan.runs if run.verb.name == "export")
        assert exported.suffix == (".pte" if one.scheme == "float" else ".pt2")


def test_pte_is_tried_unasked_where_it_can_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, executorch_python: str
) -> None:
    def formats(**asked: object) -> tuple[str, ...]:
        return formats_of(OptimizeOptions("cnn", data="digits", out=tmp_path, **asked))  # type: ignore[arg-type]

    monkeypatch.setenv(EXECUTORCH.variable, executorch_python)
    assert formats() == formats(runtimes=("executorch", "litert")) == ("onnx", "tflite", "pte")
    assert formats(runtimes=("litert",)) == formats(on=("cpu", "emulator:cortex-a72")) == ("onnx", "tflite")
    assert formats(formats=("pte",), on=("emulator:cortex-a72",)) == ("pte",)
    monkeypatch.delenv(EXECUTORCH.variable)
    monkeypatch.setattr(sys, "prefix", str(tmp_path / ".venv"))
    assert formats() == ("onnx", "tflite")


@pytest.mark.parametrize(
    ("data", "trained"), [("digits@test", "digits@train"), ("digits", "digits"), ("sst2@dev", "sst2@train")]
)
def test_nothing_is_trained_on_the_split_that_is_reported(tmp_path: Path, data: str, trained: str) -> None:
    """A held-out split that the user names is what is measured on, in every step that trains, too."""
    making = Making("cnn", OptimizeOptions("cnn", data=data, out=tmp_path), SPACE.groups, teaches=True, lr=0.02)
    made = Candidate("onnx", "int8", "minmax", depth=0.2, widths={"all": 0.3}, epochs=2)
    plan = make_plan(*parse_recipe(making.recipe(made), tmp_path / "recipe.toml"))
    said = {run.verb.name: run.options.get("data") for run in plan.runs}
    assert (said["prune"], said["finetune"], said["quantize"]) == (trained, trained, data)


@pytest.mark.parametrize("seed", range(3))
def test_every_proposal_is_a_recipe_without_mistakes(tmp_path: Path, seed: int) -> None:
    options = OptimizeOptions("cnn", data="digits", out=tmp_path, samples=50)
    making = Making("cnn", options, SPACE.groups, teaches=True, lr=0.02)
    for candidate in worked([opened(tmp_path / "s", sampler="random", seed=seed)], 40):
        plan = make_plan(*parse_recipe(making.recipe(candidate), tmp_path / "recipe.toml"))
        assert plan.problems == []
        last = plan.runs[-1]
        assert last.suffix == f".{candidate.format}"
        assert last.verb.name == ("export" if candidate.scheme == "float" else "quantize")
        assert sum(run.verb.name == "prune" for run in plan.runs) == bool(candidate.depth) + len(candidate.widths)
        assert any(run.verb.name == "finetune" for run in plan.runs) == bool(candidate.epochs)
        if "early" in candidate.widths:
            (kept,) = (run.options["keep"] for run in plan.runs if run.step.name == "width-early")
            assert kept == ["c"]
