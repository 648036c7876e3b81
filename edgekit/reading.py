"""What a library raises over a damaged or hostile file becomes the caller's own error, in one place.

Libraries fail on foreign bytes with whatever they meet first: a KeyError, a RecursionError, an error class of their
own. A reader wraps the calls that parse foreign bytes, and nothing else, in :func:`reading`.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Final

from edgekit.errors import EdgekitError, InputError, LimitError

_SHOWN: Final = 300
_DIGITS: Final = 18
_BUILT_IN: Final = (
    OSError,  # of the file itself; Pillow, gzip and tarfile derive theirs from it
    EOFError,
    ValueError,  # UnicodeError, JSONDecodeError, TOMLDecodeError, binascii.Error, a number of 5,000 digits
    TypeError,
    AttributeError,
    LookupError,  # KeyError, IndexError, an unknown encoding
    ArithmeticError,  # OverflowError, ZeroDivisionError
    RuntimeError,  # RecursionError, NotImplementedError (an unsupported compression), a zip file with a password
    SyntaxError,  # the header of an .npy file is a Python literal; Pillow's plugins raise it, too
    AssertionError,  # of Pillow's plugins
)
_OF_MODULES: Final = (
    ("csv", "Error"),
    ("lzma", "LZMAError"),
    ("struct", "error"),
    ("tarfile", "TarError"),
    ("tokenize", "TokenError"),
    ("zipfile", "BadZipFile"),
    ("zipfile", "LargeZipFile"),
    ("zlib", "error"),
)
"""Classes that derive from Exception alone; looked up once something was raised, so that nothing is imported before."""


def _foreign(also: tuple[type[Exception], ...]) -> tuple[type[Exception], ...]:
    found = []
    for module, name in _OF_MODULES:
        try:
            found.append(getattr(import_module(module), name))
        except ImportError:  # a Python that was built without liblzma or zlib cannot raise its errors either
            continue
    return (*_BUILT_IN, *found, *also)


@contextmanager
def reading(
    subject: object, error: type[InputError], what: str, *also: type[Exception], advice: str = ""
) -> Iterator[None]:
    """Raises ``error`` for whatever a library raises in the block over what it reads.

    Errors of edgekit, KeyboardInterrupt and SystemExit pass through.

    Args:
        subject: what is read, the message begins with it: a path.
        error: class of the error of the caller's room.
        what: what it should be: ``.npz``, ``an image``.
        also: further classes of the library, those that derive from Exception alone.
        advice: what to do next; ends the message.

    Raises:
        InputError: of the class ``error``.
        LimitError: reading it took more memory than there is.
    """
    try:
        yield
    except EdgekitError:
        raise
    except MemoryError as cause:
        raise LimitError(f"{subject}: reading it as {what} takes more memory than there is") from cause
    except _foreign(also) as cause:
        raise error(f"{subject} cannot be read as {what}: {why(cause)}{advice and f'; {advice}'}") from cause


def why(cause: BaseException) -> str:
    """What ``cause`` says, in one line of a message."""
    if isinstance(cause, RecursionError):
        return "it is nested too deeply"
    if isinstance(cause, OSError) and cause.errno in (errno.EMFILE, errno.ENFILE):
        return f"{cause.strerror}; allow more, for example: ulimit -n 1024"
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    text = " ".join(str(cause).split())[:_SHOWN]
    if isinstance(cause, KeyError):
        return f"{text} is missing"
    return text or type(cause).__name__


def whole_number(text: str) -> int | None:
    """The number that ``text`` holds in up to 18 digits from 0 to 9; None for anything else.

    ``str.isdigit`` takes superscripts, and ``int`` raises over 4,300 digits.
    """
    return int(text) if 0 < len(text) <= _DIGITS and text.isascii() and text.isdigit() else None
