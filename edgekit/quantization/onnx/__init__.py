"""Quantization of ONNX files for onnxruntime."""
