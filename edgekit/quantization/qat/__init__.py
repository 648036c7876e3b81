"""Training with the rounding of int8: what the quantized files will do, done in float while a network learns."""
