"""Quantization of TFLite files for LiteRT, and their recurrent layers."""
