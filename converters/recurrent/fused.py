"""LSTM and RNN as TFLite's own sequence operators, which keep their state in variable tensors.

Sources: TensorFlow Lite, ``kernels/unidirectional_sequence_lstm.cc`` and ``kernels/lstm_shared.h`` (the 24 inputs),
``kernels/unidirectional_sequence_rnn.cc`` (5 inputs). The gates of the operator are input, forget, cell, output;
torch's i f g o are the same in the same order. The state is zero when a file is opened, and after
``reset_all_variables()``: whoever runs the file calls that at the start of a sequence.

Both directions are two operators and REVERSE_V2: BIDIRECTIONAL_SEQUENCE_LSTM takes the same time (0.37 ms for 100 steps
of 40 -> 2 x 64, on either runtime), does not show each direction's last step, and is not known to TFLite Micro.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgekit.graph.tflite_editor import NONE, Graph

_TANH, _RELU = 4, 1  # schema.ActivationFunctionType
_ACTIVATIONS = {"rnn_tanh": _TANH, "rnn_relu": _RELU}
Array = np.ndarray[Any, Any]


def emit(
    graph: Graph,
    cell: str,
    name: str,
    x: int,
    weights: list[Array],
    outputs: list[int | None],
    *,
    batch_first: bool,
    reverse: bool,
) -> None:
    """The operator for one layer and direction, see :func:`edgekit.converters.recurrent.custom_ops.fused`.

    Args:
        outputs: tensors of the sequence and of its last h; None for one that is not used.
    """
    sequence, last = outputs
    axis = graph.constant(f"{name}/time", [1 if batch_first else 0], "int32")
    if reverse:
        x = graph.made("REVERSE_V2", [x, axis], f"{name}/backwards", graph.shape(x))
    shape = graph.shape(x)
    y = sequence
    if y is None or reverse:
        y = graph.tensor(f"{name}/h", [*shape[:2], weights[1].shape[1]])
    _operator(graph, cell, name, x, weights, y, batch_first=batch_first)
    if last is not None:
        end(graph, y, last, 1 if batch_first else 0)
    if reverse and sequence is not None:
        graph.operator("REVERSE_V2", [y, axis], [sequence])


def end(graph: Graph, x: int, output: int, axis: int) -> None:
    """The last of ``x`` along an axis, see :func:`edgekit.converters.recurrent.custom_ops.end`."""
    rank = len(graph.shape(x))
    first = [-1 if k == axis else 0 for k in range(rank)]
    bounds = {"end_from": first, "end_to": [0] * rank, "end_by": [1] * rank}
    constants = [graph.constant(name, value, "int32") for name, value in bounds.items()]
    whole = (1 << rank) - 1 - (1 << axis)
    masks = {"beginMask": whole, "endMask": whole, "shrinkAxisMask": 1 << axis}
    graph.operator("STRIDED_SLICE", [x, *constants], [output], **masks)


def _operator(
    graph: Graph, cell: str, name: str, x: int, weights: list[Array], output: int, *, batch_first: bool
) -> None:
    w_input, w_state, bias = weights
    shape = graph.shape(x)
    state_shape = [shape[0 if batch_first else 1], w_state.shape[1]]
    if cell == "lstm":
        _lstm(graph, name, x, weights, output, state_shape, batch_first)
        return
    constants = [
        graph.constant(f"{name}/weights", w_input),
        graph.constant(f"{name}/recurrent_weights", w_state),
        graph.constant(f"{name}/bias", bias),
    ]
    state = graph.tensor(f"{name}/h_state", state_shape, variable=True)
    graph.operator(
        "UNIDIRECTIONAL_SEQUENCE_RNN",
        [x, *constants, state],
        [output],
        timeMajor=not batch_first,
        fusedActivationFunction=_ACTIVATIONS[cell],
    )


def _lstm(
    graph: Graph, name: str, x: int, weights: list[Array], output: int, state_shape: list[int], batch_first: bool
) -> None:
    w_input, w_state, bias = weights

    def gates(part: str, value: Array) -> list[int]:
        """Four constants: input, forget, cell, output."""
        return [
            graph.constant(f"{name}/{gate}_{part}", piece)
            for gate, piece in zip(("input", "forget", "cell", "output"), np.split(value, 4), strict=True)
        ]

    states = [graph.tensor(f"{name}/{part}_state", state_shape, variable=True) for part in ("h", "c")]
    peephole, projection, normalisation = [NONE] * 3, [NONE] * 2, [NONE] * 4
    inputs = [x, *gates("weights", w_input), *gates("recurrent_weights", w_state), *peephole, *gates("bias", bias)]
    graph.operator(
        "UNIDIRECTIONAL_SEQUENCE_LSTM",
        [*inputs, *projection, *states, *normalisation],
        [output],
        timeMajor=not batch_first,
        fusedActivationFunction=_TANH,
        cellClip=0.0,
        projClip=0.0,
    )
