"""Reference networks, their tasks, training, and the trained weights."""

if __name__ != "edgekit.models":
    raise ImportError(f"this folder is the package 'edgekit.models', not {__name__!r}: import edgekit.models")
