"""The ``text`` kind: a sentence becomes a row of word numbers. Pure Python and numpy, so that a board can do it.

The rules belong to the input spec and travel in the card (``InputSpec.params``):

- ``tokenizer``: one of :data:`TOKENIZERS`; ``lower``: the text is lower-cased before. A card may give the regular
  expression of one as ``pattern`` instead; any other is refused, since some take for ever over a short text;
- ``length``: tokens of the input tensor; shorter texts are filled with 0, of longer ones the beginning is kept;
- ``vocabulary``: the known tokens, separated by spaces. The first is number 2: 0 is padding, 1 an unknown word;
- ``beginning``: an unknown word is read as the known one that begins with as many of its letters as any does, at least
  this many and :data:`SHARED` of the longer word (``masterfully`` as ``masterful``); 0 for never.

Typographic apostrophes are read as plain ones. ``english`` splits English contractions as the Penn Treebank
does (``isn't`` -> ``is n't``, ``film's`` -> ``film 's``), so that text that was split like that gives the same tokens.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from itertools import islice
from typing import Any

import numpy as np

from edgekit.data.kind import DataKind
from edgekit.errors import DataError
from edgekit.inputs import read_regular
from edgekit.limits import check
from edgekit.reading import reading
from edgekit.types import Array, InputSpec

PADDING, UNKNOWN, FIRST_WORD = 0, 1, 2
TOKENIZERS: Mapping[str, re.Pattern[str]] = {
    "english": re.compile(r"n't\b|\w+?(?=n't\b)|'(?:s|re|ve|ll|m|d)\b|\w+|[.,;:!?]"),
    "words": re.compile(r"\w+"),
}
"""Name -> what a token is, found in linear time. ``english``: words, English clitics and sentence punctuation; quotes,
hyphens and other marks only separate. ``words``: letters, digits and underscores side by side."""
MIN_COUNT = 2
"""Times a word must be seen in training to have a number: what is seen once is learned by heart, not understood."""
VOCABULARY = 20_000
"""Most words a vocabulary has, the most frequent ones."""
BEGINNING = 5
"""Letters two words must begin with together, that one is read for the other: halves what is unknown of a new text."""
SHARED = 0.6
LENGTH = 128
"""Most tokens an input has where the network does not say."""
_SHOWN = 5


class Sentences(Sequence[Array]):
    """Sentences as samples: each one a string array without axes."""

    def __init__(self, sentences: Iterable[str]) -> None:
        self.sentences = tuple(sentences)

    def __len__(self) -> int:
        return len(self.sentences)

    def __getitem__(self, index: Any) -> Any:
        return np.array(self.sentences[index])


def tokens(text: str, params: Mapping[str, Any]) -> list[str]:
    """The tokens of ``text`` by the rules of a contract.

    Raises:
        DataError: the spec's tokenizer is not known.
    """
    text = text.replace("’", "'")
    return _tokenizer(params).findall(text.lower() if params.get("lower", True) else text)


def _tokenizer(params: Mapping[str, Any]) -> re.Pattern[str]:
    name, known = params.get("tokenizer", "english"), TOKENIZERS
    if "tokenizer" not in params and "pattern" in params:
        name, known = params["pattern"], {one.pattern: one for one in TOKENIZERS.values()}
    if not isinstance(name, str) or name not in known:
        raise DataError(
            f"the model's text spec has the tokenizer {str(name)[:60]!r}, which is not known; there are: "
            f"{', '.join(TOKENIZERS)}"
        )
    return known[name]


class _Words:
    """A vocabulary, looked up."""

    def __init__(self, vocabulary: str) -> None:
        check("VOCABULARY_CHARACTERS", len(vocabulary), "the model's vocabulary")
        self.numbers = {word: number for number, word in enumerate(vocabulary.split(), FIRST_WORD)}

    @cached_property
    def _sorted(self) -> list[str]:
        return sorted(word for word in self.numbers if word.isalpha())

    @cached_property
    def _begun(self) -> dict[str, str]:
        """Every beginning that is long enough to stand for a word -> the most frequent such word."""
        found: dict[str, str] = {}
        for word in self.numbers:  # the most frequent first
            if word.isalpha():
                for length in range(math.ceil(SHARED * len(word)), len(word) + 1):
                    found.setdefault(word[:length], word)
        return found

    def alike(self, word: str, least: int) -> str | None:
        """The known word that begins most like ``word``, the most frequent of several; None where none does."""
        if least < 1 or not word.isalpha():
            return None
        place = bisect_left(self._sorted, word)
        beside = self._sorted[max(place - 1, 0) : place + 1]  # in sorted order the likest beginning is next to it
        shared = max((_shared(word, other) for other in beside), default=0)
        if shared < max(least, SHARED * len(word)):
            return None
        return self._begun.get(word[:shared])


def _shared(one: str, other: str) -> int:
    """Letters that both words begin with."""
    return next((k for k, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


@lru_cache(maxsize=8)
def _words(vocabulary: str) -> _Words:
    return _Words(vocabulary)


def vocabulary_size(contract: InputSpec) -> int:
    """Rows an embedding needs: the words, padding and unknown."""
    return FIRST_WORD + len(_words(str(contract.params.get("vocabulary", ""))).numbers)


def encode(raw: Sequence[Array] | Array, contract: InputSpec) -> Array:
    """N sentences -> int32 (N, length) of token numbers.

    Raises:
        DataError: a sentence without a word, samples that are not text, or a contract without vocabulary or length.
    """
    length, numbers = _length(contract), _words(_vocabulary(contract)).numbers
    batch = np.full((len(raw), length), PADDING, np.int32)
    for row, sample in enumerate(raw):
        text = _as_text(sample)
        found = [UNKNOWN if word is None else numbers[word] for _, word in read_as(text, contract, length)]
        if not found:
            raise DataError(f"the text {text[:60]!r} holds no word; give a sentence")
        batch[row, : len(found)] = found
    return batch


def read_as(text: str, contract: InputSpec, most: int | None = None) -> list[tuple[str, str | None]]:
    """Each token with the known word it is read as: itself, one that begins alike, or None; the first ``most`` of them.

    A mark that training never saw (no letter, no digit) only separates, and is left out.
    """
    words, least = _words(_vocabulary(contract)), _beginning(contract)
    return [
        (token, token if token in words.numbers else words.alike(token, least))
        for token in islice(_read(text, contract), most)
    ]


def _read(text: str, contract: InputSpec) -> Iterator[str]:
    known = _words(_vocabulary(contract)).numbers
    return (token for token in tokens(text, contract.params) if token in known or any(c.isalnum() for c in token))


def _as_text(sample: Array) -> str:
    array = np.asarray(sample)
    if array.dtype.kind != "U" or array.ndim:
        raise DataError(f"a text sample is one string, got {array.dtype} of shape {array.shape}")
    return str(array)


def _vocabulary(contract: InputSpec) -> str:
    words = contract.params.get("vocabulary")
    if not isinstance(words, str) or not words:
        raise DataError("the model's text spec has no vocabulary; export the network again, from its checkpoint")
    return words


def _length(contract: InputSpec) -> int:
    length = contract.params.get("length")
    if not isinstance(length, int) or length < 1:
        raise DataError(f"the model's text spec has the length {length!r}; 1 or more tokens were expected")
    return length


def _beginning(contract: InputSpec) -> int:
    letters = contract.params.get("beginning", 0)
    if not isinstance(letters, int) or letters < 0:
        raise DataError(f"the model's text spec has the beginning {letters!r}; 0 or more letters were expected")
    return letters


def read(given: str) -> Array:
    """A sentence as the user typed it; the name of a ``.txt`` file stands for the text in it.

    Raises:
        DataError: the file cannot be read, or is not UTF-8.
    """
    if not given.lower().endswith(".txt") or any(c.isspace() for c in given):
        return np.array(given)
    data = read_regular(given, DataError, "a text file, or the sentence itself", "LINE_CHARACTERS")
    with reading(given, DataError, "UTF-8 text", advice="give a text file or the sentence itself"):
        return np.array(data.decode("utf-8-sig"))


def remarks(raw: Sequence[Array] | Array, contract: InputSpec) -> tuple[str, ...]:
    """What the user should know: words of a single text that are not known, and texts that are cut."""
    length = _length(contract)
    texts = [_as_text(sample) for sample in raw]
    counts = [sum(1 for _ in _read(text, contract)) for text in texts]
    long = sum(count > length for count in counts)
    if len(texts) != 1:
        line = f"{long:,} of {len(texts):,} texts have more than the {length} tokens the model takes; the rest is cut"
        return (line,) if long else ()
    found = read_as(texts[0], contract, length)
    said = []
    alike = [f"{token} as {word}" for token, word in found if word is not None and word != token]
    if alike:
        said.append(f"read as words that begin alike: {_listed(alike)}")
    unknown = [token for token, word in found if word is None]
    if unknown:
        only = "; the answer says nothing about this text" if len(unknown) == len(found) else ""
        said.append(
            f"{len(unknown)} of {len(found)} words are not among the {vocabulary_size(contract) - FIRST_WORD:,} the "
            f"model knows: {_listed(unknown)}{only}"
        )
    if long:
        said.append(f"the text has {counts[0]} tokens, the model takes {length}; the rest is left out")
    return tuple(said)


def _listed(words: list[str]) -> str:
    return ", ".join(words[:_SHOWN]) + (", …" if len(words) > _SHOWN else "")


def text_contract(raw: Sequence[Array], *, words: int = VOCABULARY, length: int | None = None) -> InputSpec:
    """The spec that training samples imply.

    Args:
        raw: sentences.
        words: most words of the vocabulary; those seen :data:`MIN_COUNT` times or more, the most frequent first.
        length: tokens of the input; None takes the longest sample's, up to the next multiple of 8 (at most
            :data:`LENGTH`).

    Raises:
        DataError: no word is seen often enough.
    """
    rules: dict[str, Any] = {"tokenizer": "english", "lower": True, "beginning": BEGINNING}
    counts: Counter[str] = Counter()
    longest = 1
    for sample in raw:
        found = tokens(_as_text(sample), rules)
        counts.update(found)
        longest = max(longest, len(found))
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    kept = [word for word, count in ordered if count >= MIN_COUNT][:words]
    if not kept:
        raise DataError(f"no word occurs {MIN_COUNT} times in the {len(raw)} training texts; give more texts")
    taken = length or min(-(-longest // 8) * 8, LENGTH)
    return InputSpec("text", params={**rules, "length": taken, "vocabulary": " ".join(kept)})


KIND = DataKind(encode, read, remarks=remarks)
