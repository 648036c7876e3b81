"""The options of every verb: one frozen dataclass each, the only place where an option's name, type, default, range,
help and conflicts stand.

The command line, the steps of recipes, the signatures of the Python functions and the reference page are made from
these dataclasses (see :mod:`edgekit.options.base`). To add an option: a field here, its use, its test.
"""
