"""Recurrent layers in exported files: one operator a layer, however long the sequence.

The way of a layer into a TFLite file:

1. ``custom_ops``: while a network is captured, ``nn.LSTM``, ``nn.GRU`` and ``nn.RNN`` become one node each. torch
   itself would run every step of the sequence to find the shapes, and freeze its length.
2. ``lowering`` (in the worker): each node becomes sequence operators of ``custom_ops``, one a layer and direction;
   what cannot be lowered is left for litert-torch to unroll, with a note that says why.
3. ``rnn_calls``: litert-torch writes a sequence operator as a call of an unknown function, weights as constants; in
   the flatbuffer, the call becomes TFLite's own operator (``fused``), or a WHILE over one step (``loop``).

Before that, ``loop_to_rnn`` makes layers of a network's own loops over cells.

``packing`` makes layers over padded sequences of those over packed ones, during step 1; ``cell_state`` keeps the cell
state of an LSTM behind the end of each.

``onnx_layers`` writes the same nodes as ONNX operators.
"""
