"""Where libraries keep their files: in edgekit's cache, not in the home folder or the one for temporary files.

Importing TensorFlow or Keras writes ``~/.keras/keras.json``; importing torch's compiler makes a folder with a name that
anyone can foresee, from which it later loads code.
"""

from __future__ import annotations

import os
from pathlib import Path


def cache_place() -> Path:
    """``$EDGEKIT_CACHE``, else ``$XDG_CACHE_HOME/edgekit``, else ``~/.cache/edgekit``; it may not be there yet."""
    chosen = os.environ.get("EDGEKIT_CACHE")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "edgekit")


def keep_in_the_cache() -> None:
    """Sets the environment variables of those libraries for this process and its children, before they are imported.

    What the user has set, or has in ``~/.keras``, stays; so does everything where the cache cannot be written.
    """
    place = cache_place().absolute()
    above = next(folder for folder in (place, *place.parents) if folder.exists())
    if not (above.is_dir() and os.access(above, os.W_OK)):
        return
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(place / "torchinductor"))
    if not os.path.exists(os.path.expanduser("~/.keras/keras.json")):
        os.environ.setdefault("KERAS_HOME", str(place / "keras"))
