"""The transformer: shapes, padding that changes nothing, attention against torch's own, both kinds of input."""

import numpy as np
import pytest
import torch

from edgekit.data import Dataset, open_data
from edgekit.data.text import Sentences
from edgekit.models.augment import words_dropped
from edgekit.models.family import family, new_network
from edgekit.models.transformer import MASKED, Attention, mean, positions, transformer

TEXT = {"words": 50, "length": 12}


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return transformer(classes=3, input=TEXT, width=16, heads=2).eval()


def numbers(*rows, length=12):
    return torch.tensor([[*row, *[0] * (length - len(row))] for row in rows], dtype=torch.int32)


def test_padding_changes_nothing(net):
    """The mask leaves a padded place e^-20 = 2e-9 of a weight: below the rounding of float32 sums (1e-6 here)."""
    row = [5, 6, 7, 8]
    with torch.no_grad():
        bare = net(torch.tensor([row], dtype=torch.int32))
        filled = net(numbers(row))
        among = net(numbers([9] * 12, row, [3]))[1:2]
    torch.testing.assert_close(filled, bare, rtol=0, atol=1e-6)
    torch.testing.assert_close(among, bare, rtol=0, atol=1e-6)
    other = net(numbers([5, 6, 7, 9]))
    assert (other - bare).abs().max() > 1e-3  # the check can fail: another word is seen


def test_without_the_mask_padding_would_be_seen(net, monkeypatch):
    monkeypatch.setattr("edgekit.models.transformer.MASKED", 0.0)
    row = [5, 6, 7, 8]
    with torch.no_grad():
        assert (net(numbers(row)) - net(torch.tensor([row], dtype=torch.int32))).abs().max() > 1e-4


def test_all_padding_is_finite(net):
    with torch.no_grad():
        assert torch.isfinite(net(numbers([], [4]))).all()


def test_the_order_of_words_is_seen(net):
    with torch.no_grad():
        a, b = net(numbers([5, 6, 7], [7, 6, 5]))
    assert (a - b).abs().max() > 1e-4


def test_attention_is_torchs_own():
    """Against torch.nn.functional.scaled_dot_product_attention with a boolean mask; 1e-5: other order of sums."""
    torch.manual_seed(1)
    layer = Attention(16, 4, 0.0).eval()
    x = torch.randn(2, 5, 16)
    real = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], dtype=torch.bool)
    with torch.no_grad():
        got = layer(x, torch.where(real, 0.0, MASKED)[:, None, None])
        q, k, v = (part.view(2, 5, 4, 4).transpose(1, 2) for part in layer.qkv(x).split(16, -1))
        mixed = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=real[:, None, None])
        wanted = layer.out(mixed.transpose(1, 2).reshape(2, 5, 16))
    torch.testing.assert_close(got, wanted, rtol=0, atol=1e-5)


def test_sines_by_hand():
    table = positions(4, 6)
    for place in range(4):
        for k in range(3):
            angle = place / 10_000 ** (2 * k / 6)
            np.testing.assert_allclose(
                table[place, 2 * k : 2 * k + 2], [np.sin(angle), np.cos(angle)], atol=1e-6
            )  # float32
    assert positions(3, 5).shape == (3, 5)


def test_both_positions_and_both_inputs():
    sines = transformer(classes=2, input=TEXT, width=8, heads=2, learned_positions=False)
    assert not any("positions" in name for name, _ in sines.named_parameters())
    assert "positions.table" not in sines.state_dict()
    assert sines(torch.ones(3, 12, dtype=torch.int64)).shape == (3, 2)  # 64-bit numbers are taken too
    image = transformer(classes=5, input={"channels": 3, "size": (8, 12), "patch": 4}, width=8, heads=1)
    assert image(torch.zeros(2, 3, 8, 12)).shape == (2, 5)
    assert image.positions.table.shape == (6, 8)


def test_the_mean_is_over_words_only():
    x = torch.arange(12.0).reshape(2, 3, 2)
    real = torch.tensor([[1.0, 1, 0], [0, 0, 0]])
    found = mean(x, ((1 - real) * MASKED)[:, None, None])
    wanted = torch.tensor([[1.0, 2.0], [8.0, 9.0]])  # of two words; of everything where no word is
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=0)  # what padding leaks is 2e-9 of a weight
    assert mean(x, None).tolist() == [[2.0, 3.0], [8.0, 9.0]]


@pytest.mark.parametrize(
    "bad", [{"width": 10}, {"depth": 0}, {"dropout": (0.1, 1.0, 0.1)}, {"dropout": (0.1,)}, {"classes": 0}]
)
def test_senseless_numbers(bad):
    with pytest.raises(ValueError, match="multiple of heads"):
        transformer(**{"classes": 2, "input": TEXT, "heads": 4, **bad})


def test_a_size_that_is_not_a_multiple_of_the_patch():
    with pytest.raises(ValueError, match="8x9 is not a multiple of the patch of 2x2"):
        transformer(classes=2, input={"channels": 1, "size": (8, 9), "patch": 2})


def test_it_is_shaped_by_its_data():
    network = new_network("transformer", open_data("digits@train"))
    assert network.signature.inputs[0].shape == (1, 1, 8, 8)
    assert network.card.config["builder"]["input"] == {"channels": 1, "size": [8, 8], "patch": 2}
    text = Dataset("t", "train", "text", {"text": Sentences(["a b a", "b c"])}, np.array([0, 1]), ("x", "y"))
    network = new_network("transformer", text)
    (spec,) = network.signature.inputs
    assert (spec.name, spec.dtype, spec.shape) == ("text", "int32", (1, 8))
    assert network.card.contract["text"].params["vocabulary"] == "a b"
    assert network.card.config["builder"] == {"input": {"words": 4, "length": 8}, "classes": 2}


@pytest.mark.parametrize(
    ("shape", "size", "patch"),
    [
        ((32, 32), (32, 32), 4),
        ((28, 28), (28, 28), 4),
        ((31, 17), (32, 16), 4),
        ((1, 1), (2, 2), 2),
        ((224, 160), (224, 168), 28),
    ],
)
def test_any_image_is_cut_into_whole_patches(shape, size, patch):
    images = np.random.default_rng(0).integers(0, 256, (4, *shape, 3), np.uint8)
    data = Dataset("i", "train", "image", {"image": images}, np.array([0, 1, 0, 1]), ("x", "y"))
    fitted = family("transformer").fit(data)
    assert fitted.contract.size == size
    assert fitted.builder["input"]["patch"] == patch


def test_words_are_dropped_by_their_share_and_padding_is_not():
    text = numbers([5] * 6, [7] * 12).repeat(500, 1)
    dropped = words_dropped(text, 0.1, torch.Generator().manual_seed(0))
    assert dropped.dtype == text.dtype
    assert not dropped[text == 0].any()
    share = (dropped == 1).sum() / (text != 0).sum()
    assert 0.08 < share < 0.12  # 9,000 words: the deviation of the share is 0.003
    assert ((dropped == text) | (dropped == 1)).all()
