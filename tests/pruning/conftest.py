"""The network that the quantization's tests use, too."""

from ..quantization.conftest import checkpoint, digits_folder, digits_test, network

__all__ = ["checkpoint", "digits_folder", "digits_test", "network"]
