"""The graphs of model files: what operators are (:mod:`.ops`), and how ONNX and TFLite graphs are read and edited."""
