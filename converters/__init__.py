"""Framework to format, format to format: one converter a file, named ``<from>_to_<to>``."""

if __name__ != "edgekit.converters":
    raise ImportError(f"this folder is the package 'edgekit.converters', not {__name__!r}: import edgekit.converters")
