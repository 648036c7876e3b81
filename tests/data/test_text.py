"""The text kind: tokens by hand, numbers, what is unknown, cut or empty; made inputs stay inside the vocabulary."""

import logging

import numpy as np
import pytest

from edgekit.data import sample_feed, seeded_feed
from edgekit.data.dataset import Dataset
from edgekit.data.preprocess import batches
from edgekit.data.seeded import extreme_feed, zeros_feed
from edgekit.data.text import (
    TOKENIZERS,
    Sentences,
    encode,
    read,
    read_as,
    remarks,
    text_contract,
    tokens,
    vocabulary_size,
)
from edgekit.errors import DataError, LimitError
from edgekit.quality.cases import cases
from edgekit.types import InputSpec, Signature, TensorSpec

LENGTH = 6
WORD = "bcdefghijklmnopqrstuvwxyz"
CONTRACT = InputSpec("text", params={"length": LENGTH, "vocabulary": "a film fine n't is , !"})
SIGNATURE = Signature((TensorSpec("text", "int32", (1, LENGTH)),), (TensorSpec("logits", "float32", (1, 2)),))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("A fine film", "a fine film"),
        ("It isn't  the film's fault!", "it is n't the film 's fault !"),
        ("it is n't the film 's fault !", "it is n't the film 's fault !"),  # as treebanks write it: the same tokens
        ("can’t-miss, ‘really’", "ca n't miss , really"),
        ("'great' (1999)", "great 1999"),
        ("naïve Ünsinn 好", "naïve ünsinn 好"),
        ("\t \n", ""),
    ],
)
def test_tokens(text, wanted):
    assert tokens(text, {}) == wanted.split()


def test_numbers_padding_and_unknown():
    rows = encode(Sentences(["a fine film", "Isn't this a film?", "a a a a a a a a"]), CONTRACT)
    assert rows.dtype == np.int32
    # 0 padding, 1 unknown ("this"), words from 2 on; "?" is a mark training never saw and only separates
    assert rows.tolist() == [[2, 4, 3, 0, 0, 0], [6, 5, 1, 2, 3, 0], [2] * 6]
    assert vocabulary_size(CONTRACT) == 9


def test_samples_are_strings_without_axes_and_nothing_is_an_object():
    sentences = Sentences(["one", "two words"])
    assert [str(s) for s in sentences] == ["one", "two words"]
    assert all(s.shape == () and s.dtype.kind == "U" for s in sentences)
    with pytest.raises(DataError, match="a text sample is one string, got float64"):
        encode([np.array(3.0)], CONTRACT)
    with pytest.raises(DataError, match="one string"):
        encode([np.array(["a", "b"])], CONTRACT)


@pytest.mark.parametrize("text", ["", "   ", "---", '"?"'])
def test_empty_text(text):
    with pytest.raises(DataError, match="holds no word; give a sentence"):
        sample_feed(text, SIGNATURE, {"text": CONTRACT})


def test_what_is_unknown_or_cut_is_said(caplog):
    def said(text):
        caplog.clear()
        with caplog.at_level(logging.INFO, "edgekit"):
            sample_feed(text, SIGNATURE, {"text": CONTRACT})
        return [record.getMessage() for record in caplog.records]

    assert said("a fine film") == []
    assert said("a splendid film") == ["1 of 3 words are not among the 7 the model knows: splendid"]
    (only,) = said("xyz qrs")
    assert only.startswith("2 of 2 words") and only.endswith("the answer says nothing about this text")
    assert said("a fine film is a film") == []
    assert said("a fine film is a fine film") == ["the text has 7 tokens, the model takes 6; the rest is left out"]
    data = Dataset("d", "all", "text", {"text": Sentences(["a " * 9, "film"])})
    with caplog.at_level(logging.INFO, "edgekit"):
        list(batches(data, SIGNATURE, {"text": CONTRACT}))
    assert "1 of 2 texts have more than the 6 tokens" in caplog.text


def test_a_text_file_stands_for_its_text(tmp_path):
    file = tmp_path / "review.txt"
    file.write_text("a fine film\n", encoding="utf-8")
    assert sample_feed(str(file), SIGNATURE, {"text": CONTRACT})["text"].tolist() == [[2, 4, 3, 0, 0, 0]]
    assert str(read("see the file notes.txt")) == "see the file notes.txt"  # a sentence: it has spaces
    (tmp_path / "latin.txt").write_bytes(b"na\xefve")
    for name, words in (("missing.txt", "does not exist"), ("latin.txt", "cannot be read as UTF-8")):
        with pytest.raises(DataError, match=words):
            read(str(tmp_path / name))


def test_the_contract_of_samples():
    contract = text_contract(Sentences(["b b a", "a c d", "a once"]))
    assert contract.params["beginning"] == 5
    assert contract.params["vocabulary"] == "a b"  # the most frequent first; what is seen once has no number
    assert contract.params["length"] == 8  # the longest sample has 3 tokens: up to the next multiple of 8
    assert text_contract(Sentences(["a " * 500])).params["length"] == 128
    assert text_contract(Sentences(["a a b b c c"]), words=2, length=5).params == {
        **contract.params, "vocabulary": "a b", "length": 5
    }  # fmt: skip
    with pytest.raises(DataError, match="no word occurs 2 times"):
        text_contract(Sentences(["a b", "c d"]))


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"length": 4}, "no vocabulary"),
        ({"vocabulary": "a"}, "the length None"),
        ({"vocabulary": "a", "length": 0}, "the length 0"),
        (
            {"vocabulary": "a", "length": 3, "pattern": "("},
            "tokenizer '\\(', which is not known; there are: english, words",
        ),
        ({"vocabulary": "a", "length": 3, "pattern": "(a|a)*b"}, "is not known"),
        ({"vocabulary": "a", "length": 3, "tokenizer": "french"}, "tokenizer 'french', which is not known"),
        ({"vocabulary": "a", "length": 3, "tokenizer": 5}, "is not known"),
        ({"vocabulary": "a", "length": 3, "beginning": "many"}, "the beginning 'many'"),
    ],
)
def test_a_contract_that_is_none(params, words):
    with pytest.raises(DataError, match=words):
        encode(Sentences(["a"]), InputSpec("text", params=params))


@pytest.mark.parametrize(
    ("word", "known"),
    [
        ("masterfully", "masterful"),
        ("masters", "master"),  # the longest beginning: 6 letters of both, "master" is the more frequent
        ("boredom", None),  # bored: 5 of 7 letters, but it is not known
        ("bore", None),  # under five letters
        ("mastodon", None),  # mast: four letters
        ("charmingly", "charming"),
        ("charm", "charming"),
        ("charmlessness", None),  # charm: 5 letters are less than 0.6 of 13
        ("master2", None),  # numbers and names of their own stay unknown
    ],
)
def test_an_unknown_word_is_read_as_one_that_begins_alike(word, known):
    contract = InputSpec(
        "text", params={"length": 3, "beginning": 5, "vocabulary": "the master masterpiece masterful charming zebra"}
    )
    assert read_as(f"the {word}", contract) == [("the", "the"), (word, known)]
    never = InputSpec("text", params={**contract.params, "beginning": 0})
    assert read_as(word, never) == [(word, None)]


def test_what_is_read_as_another_word_is_said(caplog):
    contract = InputSpec("text", params={"length": 6, "beginning": 5, "vocabulary": "charming film"})
    with caplog.at_level(logging.INFO, "edgekit"):
        feed = sample_feed("a charmingly film", SIGNATURE, {"text": contract})["text"]
    assert feed.tolist() == [[1, 2, 3, 0, 0, 0]]
    assert "read as words that begin alike: charmingly as charming" in caplog.text


def test_made_inputs_are_words_of_the_vocabulary_then_padding():
    feed = seeded_feed(SIGNATURE, {"text": CONTRACT}, 3, batch=200)["text"]
    assert feed.dtype == np.int32
    assert set(np.unique(feed)) == set(range(9))  # padding, unknown and all seven words
    lengths = (feed != 0).sum(1)
    assert set(lengths) == set(range(1, LENGTH + 1))
    assert all((row[:n] != 0).all() and not row[n:].any() for row, n in zip(feed, lengths, strict=True))
    assert extreme_feed(SIGNATURE, {"text": CONTRACT}, 1)["text"].tolist() == [[8] * LENGTH]
    assert extreme_feed(SIGNATURE, {"text": CONTRACT}, -1)["text"].tolist() == [[1] * LENGTH]


def test_a_proof_runs_on_words_although_its_example_is_padding():
    example = zeros_feed(SIGNATURE, {"text": CONTRACT})
    kinds = {c.kind: c.feed["text"] for c in cases(SIGNATURE, {"text": CONTRACT}, examples=example)}
    assert kinds["random"].any()
    assert kinds["highest"].max() == 8
    assert not kinds["zeros"].any()  # all padding: a mean over no word


def test_old_cards_give_the_pattern_of_a_tokenizer():
    assert tokens("don't stop", {"pattern": TOKENIZERS["english"].pattern}) == ["do", "n't", "stop"]
    assert tokens("don't stop", {"pattern": r"\w+"}) == ["don", "t", "stop"]


def test_a_hostile_vocabulary_and_text_take_no_time(monkeypatch):
    words = " ".join(f"{a}{b}{c}{d}" for a in "a" for b in WORD for c in WORD for d in WORD)
    rule = InputSpec("text", params={"length": 100_000, "beginning": 1, "vocabulary": words})
    text = " ".join("a" + "b" * k for k in range(5000, 5100)) + " ab" * 50_000
    assert encode([np.array(text)], rule).shape == (1, 100_000)
    assert "tokens, the model takes" not in "".join(remarks([np.array(text)], rule))
    monkeypatch.setenv("EDGEKIT_LIMIT_VOCABULARY_CHARACTERS", "10")
    with pytest.raises(LimitError, match="VOCABULARY_CHARACTERS"):
        encode([np.array("a")], InputSpec("text", params={"length": 3, "vocabulary": "a b c d e f g"}))
