"""Runs a .tflite file in MediaPipe Tasks: ``python mediapipe_tasks.py TASK MODEL INPUTS.npz OUT.json``.

It is run by another interpreter than the tests' (``mediapipe_python``), which has MediaPipe and not edgekit.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from typing import Any

import mediapipe
import numpy as np
from mediapipe.tasks import python as tasks
from mediapipe.tasks.python import audio, vision

Answers = list[dict[str, Any]]


def pictures(inputs: Mapping[str, Any]) -> list[Any]:
    images = (np.ascontiguousarray(image) for image in inputs["images"])
    return [mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=image) for image in images]


def classifier(base: Any, inputs: Mapping[str, Any]) -> Answers:
    options = vision.ImageClassifierOptions(base_options=base)
    with vision.ImageClassifier.create_from_options(options) as task:
        found = [task.classify(image).classifications[0].categories for image in pictures(inputs)]
    return [{"name": rows[0].category_name, "scores": {row.category_name: row.score for row in rows}} for rows in found]


def segmenter(base: Any, inputs: Mapping[str, Any]) -> Answers:
    options = vision.ImageSegmenterOptions(base_options=base, output_category_mask=True, output_confidence_masks=True)
    with vision.ImageSegmenter.create_from_options(options) as task:
        found = [task.segment(image) for image in pictures(inputs)]
        return [
            {
                "labels": list(task.labels),
                "mask": one.category_mask.numpy_view().squeeze().tolist(),
                "confidence": [mask.numpy_view().squeeze().tolist() for mask in one.confidence_masks],
            }
            for one in found
        ]


def detector(base: Any, inputs: Mapping[str, Any]) -> Answers:
    options = vision.ObjectDetectorOptions(base_options=base, score_threshold=float(inputs["threshold"]))
    with vision.ObjectDetector.create_from_options(options) as task:
        found = [task.detect(image).detections for image in pictures(inputs)]
    return [
        {
            "boxes": [
                [box.origin_x, box.origin_y, box.origin_x + box.width, box.origin_y + box.height]
                for box in (row.bounding_box for row in rows)
            ],
            "names": [row.categories[0].category_name for row in rows],
            "scores": [row.categories[0].score for row in rows],
        }
        for rows in found
    ]


def sound(base: Any, inputs: Mapping[str, Any]) -> Answers:
    options = audio.AudioClassifierOptions(base_options=base)
    with audio.AudioClassifier.create_from_options(options) as task:
        answers = []
        for samples in inputs["samples"]:
            clip = tasks.components.containers.AudioData.create_from_array(samples, float(inputs["rate"]))
            rows = task.classify(clip)[0].classifications[0].categories
            answers.append({"name": rows[0].category_name, "scores": {row.category_name: row.score for row in rows}})
    return answers


TASKS: Mapping[str, Callable[[Any, Mapping[str, Any]], Answers]] = {
    "classifier": classifier, "segmenter": segmenter, "detector": detector, "sound": sound,
}  # fmt: skip


def main(task: str, model: str, given: str, out: str) -> None:
    try:
        answers: Any = TASKS[task](tasks.BaseOptions(model_asset_path=model), np.load(given))
    except Exception as error:  # what MediaPipe says of a file that it refuses is the answer
        answers = f"{type(error).__name__}: {error}"
    with open(out, "w", encoding="utf-8") as file:
        json.dump(answers, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
