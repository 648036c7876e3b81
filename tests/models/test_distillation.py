"""What a student learns of its teacher, in each kind of task: nothing more where it gives the same, and towards it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from edgekit.models.boxes import DETECTION
from edgekit.models.family import Hyperparameters
from edgekit.models.objective import ANOMALY, CLASSIFICATION, FORECASTING, Objective
from edgekit.models.segmentation import SEGMENTATION
from edgekit.models.value_objectives import MULTILABEL, REGRESSION

OPTIONS = Hyperparameters(epochs=1, batch=4, lr=0.1, temperature=3.0)


def _values(*shape: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)


def _detections() -> tuple[Tensor, Tensor]:
    """Boxes (2, 9, 4) that overlap their cell, and scores of 3 classes."""
    made = []
    for seed in (0, 1):
        generator = torch.Generator().manual_seed(seed)
        start = 10 * torch.rand((2, 9, 2), generator=generator)
        boxes = torch.cat([start, start + 5 + 10 * torch.rand((2, 9, 2), generator=generator)], -1)
        made.append(torch.cat([boxes, torch.rand((2, 9, 3), generator=generator)], -1))
    return made[0], made[1]


CASES = [
    (CLASSIFICATION, _values(4, 5)), (SEGMENTATION, _values(2, 3, 6, 7)), (REGRESSION, _values(4, 2)),
    (FORECASTING, _values(4, 8, 2)), (ANOMALY, _values(4, 64)), (MULTILABEL, _values(4, 6)), (DETECTION, _detections()),
]  # fmt: skip


@pytest.mark.parametrize(("objective", "pair"), CASES)
def test_a_student_is_drawn_to_its_teacher(objective: Objective, pair: tuple[Tensor, Tensor]) -> None:
    outputs, teacher = pair
    assert objective.soft is not None
    alike = objective.soft(teacher.clone(), teacher, OPTIONS)
    assert float(alike) == pytest.approx(0, abs=1e-6), "float32: nothing is to be learned of one's own outputs"
    student = outputs.clone().requires_grad_()
    first = objective.soft(student, teacher, OPTIONS)
    (gradient,) = torch.autograd.grad(first, student)
    step = 0.1 / float(gradient.abs().max())
    assert float(objective.soft(student - step * gradient, teacher, OPTIONS).detach()) < float(first.detach())
    assert float(first.detach()) > 1e-3


def test_classes_at_each_place_are_the_mean_of_the_places() -> None:
    outputs, teacher = _values(2, 3, 4, 5)
    flat = [values.movedim(1, -1).reshape(-1, 3) for values in (outputs, teacher)]
    assert CLASSIFICATION.soft is not None and SEGMENTATION.soft is not None
    wanted = CLASSIFICATION.soft(flat[0], flat[1], OPTIONS)
    assert float(SEGMENTATION.soft(outputs, teacher, OPTIONS)) == pytest.approx(float(wanted), rel=1e-5)


def test_a_cell_of_which_the_teacher_is_not_sure_teaches_no_box() -> None:
    outputs, teacher = _detections()
    teacher[..., 4:] = 0
    outputs[..., 4:] = 0
    assert DETECTION.soft is not None
    # 1e-6 is the least score that is counted, of 18 cells
    assert float(DETECTION.soft(outputs, teacher, OPTIONS)) < 1e-4
