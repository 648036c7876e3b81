"""Pruning: what can leave a network, what is worth least, and the proof that what is left is the same."""
