"""Where a network's weights come from, and how it is said when they are random."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlparse
from urllib.request import getproxies

from edgekit.data.cache import may_download, require_downloads
from edgekit.types import Card

log = logging.getLogger("edgekit")
RANDOM, PRETRAINED, PARTLY = "random", "pretrained", "partly random"


def origin(card: Card) -> str | None:
    """``trained`` (by edgekit, the zoo included), ``pretrained``, ``partly random`` or ``random``; None where the
    source does not say, as a factory."""
    if "family" in card.config or any(step.params.get("epochs") for step in card.steps):
        return "trained"
    found = card.config.get("weights")
    return None if found is None else str(found)


def random_note(card: Card) -> tuple[str, ...]:
    """One line for the card of a file whose weights are random, in whole or in part."""
    found = origin(card)
    if found not in (RANDOM, PARTLY):
        return ()
    why = card.config.get("why")
    return (f"the weights are {found}{f' ({why})' if why else ''}: sizes and times hold, answers mean nothing",)


def say_random(spelled: str, why: str) -> None:
    """The warning that goes with :func:`random_note`, when the network is made."""
    log.warning("%s: its weights are RANDOM (%s): sizes and times hold, answers mean nothing", spelled, why)


@dataclass(frozen=True, slots=True)
class Hub:
    """Access to the Hugging Face hub. ``reachable``: it would answer; ``online``: it is asked."""

    reachable: bool
    online: bool

    def missing(self, what: str) -> None:
        """Raises NotHereError where ``what`` is missing only since the hub is not asked."""
        if self.reachable:
            require_downloads(what)


@contextmanager
def hub() -> Iterator[Hub]:
    """The Hugging Face hub; only its cache is used unless ``online``.

    It is not asked where it cannot be reached, nor within :func:`edgekit.data.cache.without_downloads`. Its client
    tries each file for most of a minute before it gives up; a host whose name does not resolve, without a proxy, needs
    no try.
    """
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    reachable = not before and _reachable(constants.ENDPOINT)
    found = Hub(reachable, reachable and may_download())
    constants.HF_HUB_OFFLINE = not found.online
    try:
        yield found
    finally:
        constants.HF_HUB_OFFLINE = before


def _reachable(url: str) -> bool:
    address = urlparse(url)
    if getproxies().get(address.scheme):
        return True
    try:
        return bool(socket.getaddrinfo(address.hostname, address.port or 443))
    except OSError:
        return False
