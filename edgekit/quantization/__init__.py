"""Quantization of model files: which operators run on integers, their ranges, and the passes of both formats."""
