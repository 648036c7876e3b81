"""onnxruntime's I/O binding: inputs and outputs that stay in a device's memory, and copies as steps of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgekit.types import Array


class Binding:
    """A session bound to buffers on ``device`` (onnxruntime's word: ``cuda``, ``cpu``).

    Outputs are laid out by onnxruntime on the device in the first run, and written there again by the next ones, until
    an input has another shape. An output whose shape follows from the values (``NonZero``) ends in onnxruntime's error.
    """

    def __init__(self, library: Any, session: Any, outputs: Sequence[str], device: str, index: int = 0) -> None:
        self._library, self._session = library, session
        self._place = device, index
        self._binding = session.io_binding()
        self._held: dict[str, Any] = {}
        self._outputs = list(outputs)
        self._bind_outputs()

    def copy_in(self, names: Sequence[str], arrays: Sequence[Array]) -> None:
        """Host to device; a buffer is kept while the shape stays."""
        for name, array in zip(names, arrays, strict=True):
            held = self._held.get(name)
            if held is not None and tuple(held.shape()) == array.shape:
                held.update_inplace(array)
                continue
            value = self._library.OrtValue.ortvalue_from_numpy(array, *self._place)
            self._binding.bind_ortvalue_input(name, value)
            self._held[name] = value
            self._bind_outputs()

    def _bind_outputs(self) -> None:
        """Has onnxruntime lay them out anew: what it has laid out holds one shape."""
        self._binding.clear_binding_outputs()
        for name in self._outputs:
            self._binding.bind_output(name, *self._place)

    def run(self) -> None:
        """One run on the buffers, to its end."""
        self._session.run_with_iobinding(self._binding)
        self._binding.synchronize_outputs()

    def copy_out(self) -> list[Array]:
        """Device to host: new arrays, in the order of ``outputs``."""
        return [value.numpy().copy() for value in self._binding.get_outputs()]

    @property
    def bytes(self) -> tuple[int, int]:
        """Of all inputs, of the outputs of the last run."""
        made = [value.numpy().nbytes for value in self._binding.get_outputs() if value.has_value()]
        return sum(value.numpy().nbytes for value in self._held.values()), sum(made)
