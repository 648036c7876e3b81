"""Ranges of tensors: seen on data, kept in a file, carried over to another format."""
