"""Makes the SavedModel folders of the tests: ``python saved_models.py FOLDER``, a process that TensorFlow has alone."""

from __future__ import annotations

import sys

import numpy as np
import sklearn.datasets
import tensorflow as tf

FLOATS = tf.TensorSpec([None, 4], tf.float32, name="x")


class Two(tf.Module):
    """Two inputs, one of them integer, two outputs, an open batch."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = tf.Variable(np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32))

    @tf.function(input_signature=[FLOATS, tf.TensorSpec([None, 4], tf.int64, name="k")])
    def __call__(self, x: tf.Tensor, k: tf.Tensor) -> dict[str, tf.Tensor]:
        logits = tf.matmul(x + tf.cast(k, tf.float32), self.weight)
        return {"logits": logits, "probs": tf.nn.softmax(logits)}


class Counter(tf.Module):
    """Adds up what it is given, from call to call."""

    def __init__(self) -> None:
        super().__init__()
        self.total = tf.Variable(tf.zeros([4]))

    @tf.function(input_signature=[tf.TensorSpec([1, 4], tf.float32, name="x")])
    def __call__(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        self.total.assign_add(x[0])
        return {"total": tf.identity(self.total)}


class Root(tf.Module):
    """The Cholesky factor of x xᵀ + 8: an operator that TFLite has with Flex only."""

    @tf.function(input_signature=[tf.TensorSpec([2, 4], tf.float32, name="x")])
    def __call__(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"root": tf.linalg.cholesky(tf.matmul(x, x, transpose_b=True) + 8 * tf.eye(2))}


class Gaussian(tf.Module):
    """Linear discriminant analysis of the digits: a class is a mean, and all share one covariance. The distances take
    a triangular solve, which TFLite has with Flex only."""

    def __init__(self) -> None:
        super().__init__()
        digits = sklearn.datasets.load_digits()
        rows, labels = digits.data / 16, digits.target
        learnt, labels = rows[: len(rows) // 2], labels[: len(rows) // 2]
        means = np.stack([learnt[labels == k].mean(0) for k in range(10)])
        spread = learnt - means[labels]
        covariance = spread.T @ spread / len(learnt) + 0.02 * np.eye(64)
        self.means = tf.constant(means.astype(np.float32))
        self.lower = tf.constant(np.linalg.cholesky(covariance).astype(np.float32))

    @tf.function(input_signature=[tf.TensorSpec([None, 8, 8, 1], tf.float32, name="image")])
    def __call__(self, image: tf.Tensor) -> dict[str, tf.Tensor]:
        away = tf.reshape(image, [-1, 1, 64]) - self.means  # (N, 10, 64)
        solved = tf.linalg.triangular_solve(self.lower, tf.transpose(tf.reshape(away, [-1, 64])))
        distances = tf.reduce_sum(tf.square(solved), axis=0)
        return {"logits": -0.5 * tf.reshape(distances, [-1, 10])}


class Gamma(tf.Module):
    """An operator that TFLite has not at all."""

    @tf.function(input_signature=[tf.TensorSpec([2, 4], tf.float32, name="x")])
    def __call__(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": tf.math.igamma(tf.abs(x) + 1.0, tf.abs(x) + 2.0)}


class Words(tf.Module):
    """A string goes in."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
    def __call__(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"length": tf.strings.length(text)}


def main(folder: str) -> None:
    kinds = (Two, Counter, Root, Gamma, Words, Gaussian)
    for name, made in ((kind.__name__.lower(), kind()) for kind in kinds):
        tf.saved_model.save(made, f"{folder}/{name}", signatures=made.__call__)
    both = Two()
    call = both.__call__.get_concrete_function()
    tf.saved_model.save(both, f"{folder}/ambiguous", signatures={"first": call, "second": call})
    for name in ("root", "gaussian"):
        flex = tf.lite.TFLiteConverter.from_saved_model(f"{folder}/{name}")
        flex.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS, tf.lite.OpsSet.SELECT_TF_OPS]
        with open(f"{folder}/{name}.tflite", "wb") as file:
            file.write(flex.convert())


if __name__ == "__main__":
    main(sys.argv[1])
