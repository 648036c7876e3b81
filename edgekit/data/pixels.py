"""The ``image`` kind: pixels become normalised tensors of the spec's size and layout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.data.images import SUFFIXES, decode
from edgekit.data.kind import DataKind, affine
from edgekit.errors import DataError, RuntimeMissingError
from edgekit.limits import check
from edgekit.types import Array, InputSpec

if TYPE_CHECKING:
    from PIL import Image

_IGNORED = 255
"""The index of pixels in a mask that count nowhere."""


def encode(raw: Sequence[Array] | Array, contract: InputSpec) -> Array:
    """uint8 images, height x width x channels each -> float32 (N, C, H, W), (N, H, W, C) or (N, H, W * C)."""
    pixels = _as_images(raw, contract)
    factor, offset = affine(contract, pixels.shape[-1])
    if contract.params.get("color") == "BGR":
        pixels = pixels[..., ::-1]  # mean and std are in the order of the tensor's channels
    batch: Array = pixels.astype(np.float32) * factor + offset
    if contract.layout == "NCHW":
        return np.asarray(batch.transpose(0, 3, 1, 2), order="C")
    if contract.layout == "NHW":
        return batch.reshape(*batch.shape[:2], -1)
    return batch


def _as_images(raw: Sequence[Array] | Array, contract: InputSpec) -> Array:
    """uint8 (N, height, width, channels) of the spec's size and channels."""
    if isinstance(raw, np.ndarray) and raw.ndim == 4 and _fits(raw[0], contract):
        return raw
    return np.stack([_fit_image(np.asarray(image), contract) for image in raw])


def _fits(image: Array, contract: InputSpec) -> bool:
    return (contract.size in (None, image.shape[:2])) and contract.channels in (0, image.shape[-1])


def _fit_image(image: Array, contract: InputSpec) -> Array:
    if image.ndim != 3 or image.shape[-1] not in (1, 3):
        raise DataError(f"an image is height x width x 1 or 3, got shape {image.shape}")
    if _fits(image, contract):
        return image
    try:
        from PIL import Image
    except ImportError as error:
        raise RuntimeMissingError(
            f"the image is {image.shape}, the model takes {contract.size} x {contract.channels}, and resizing needs "
            "Pillow: pip install pillow"
        ) from error
    picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    if contract.channels in (1, 3):
        picture = picture.convert("L" if contract.channels == 1 else "RGB")
    if contract.size is not None and picture.size != contract.size[::-1]:
        picture = _resized(picture, contract.size, contract.params)
    pixels = np.asarray(picture, dtype=np.uint8)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _resized(picture: Image.Image, size: tuple[int, int], params: Mapping[str, Any]) -> Image.Image:
    """``picture`` with ``size`` (height, width): resized to it, or as ``params`` say, and the centre cut out then.

    ``interpolation``: ``bilinear`` (without it), ``bicubic``, ``nearest``, ``lanczos``, ``box`` or ``hamming``;
    ``shorter``: what the shorter side is resized to, the proportions kept; ``resize``: height and width to resize to;
    ``letterbox``: the grey of the bars beside a picture that is shown whole, the proportions kept.

    Raises:
        DataError: the spec names an interpolation that Pillow has not.
        LimitError: what is resized before the centre is cut out has too many pixels, as a narrow strip may have.
    """
    from PIL import Image

    name = str(params.get("interpolation", "bilinear")).upper()
    if name not in Image.Resampling.__members__:
        known = ", ".join(Image.Resampling.__members__).lower()
        raise DataError(f"the model's contract resizes images by {name.lower()!r}; known are: {known}")
    place = placement((picture.height, picture.width), size, params)
    picture = picture.resize((place.width, place.height), Image.Resampling[name])
    if "letterbox" in params:
        bars = int(params["letterbox"])
        whole = Image.new(picture.mode, size[::-1], (bars,) * 3 if picture.mode == "RGB" else bars)
        whole.paste(picture, (place.left, place.top))
        return whole
    return picture.crop((-place.left, -place.top, size[1] - place.left, size[0] - place.top))


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a picture lies in an input, in the input's pixels.

    Attributes:
        height, width: what the picture is resized to.
        top, left: where its corner lies; negative where the centre is cut out.
    """

    height: int
    width: int
    top: int = 0
    left: int = 0

    def to_input(self, boxes: Array, picture: tuple[int, int]) -> Array:
        """Boxes (K, 4) of a picture with ``picture`` (height, width) as boxes in the input; float64."""
        return np.asarray(boxes, np.float64) * self._factors(picture) + self._corner()

    def to_picture(self, boxes: Array, picture: tuple[int, int]) -> Array:
        """The way back."""
        result: Array = (np.asarray(boxes, np.float64) - self._corner()) / self._factors(picture)
        return result

    def _factors(self, picture: tuple[int, int]) -> Array:
        across, down = self.width / picture[1], self.height / picture[0]
        return np.array([across, down, across, down])

    def _corner(self) -> Array:
        return np.array([self.left, self.top, self.left, self.top], np.float64)


def placement(picture: tuple[int, int], size: tuple[int, int] | None, params: Mapping[str, Any]) -> Placement:
    """Where a picture of ``picture`` (height, width) lies in an input of ``size``; None is the picture's own.

    Raises:
        LimitError: what it is resized to has too many pixels.
    """
    if size is None or picture == size:
        return Placement(*picture)
    subject = f"an image of {picture[0]} x {picture[1]}, resized as the model's contract says"
    height, width = size
    if "shorter" in params:
        check("IMAGE_PIXELS", int(params["shorter"]) ** 2, subject)
        factor = int(params["shorter"]) / min(picture)
        height, width = (max(least, int(side * factor)) for least, side in zip(size, picture, strict=True))
    elif "resize" in params:
        height, width = params["resize"]
    elif "letterbox" in params:
        factor = min(size[0] / picture[0], size[1] / picture[1])
        height, width = (max(1, round(side * factor)) for side in picture)
        return Placement(height, width, (size[0] - height) // 2, (size[1] - width) // 2)
    check("IMAGE_PIXELS", height * width, subject)
    return Placement(height, width, -round((height - size[0]) / 2), -round((width - size[1]) / 2))


def fit_mask(mask: Array, size: tuple[int, ...], contract: InputSpec | None) -> Array:
    """An index mask (height, width) as its picture becomes an input, by the nearest pixel, at the ``size`` of the
    scores.

    Raises:
        DataError: not one number a pixel.
    """
    mask = np.asarray(mask)
    if mask.ndim == 3 and 1 in (mask.shape[0], mask.shape[-1]):
        mask = mask[0] if mask.shape[0] == 1 else mask[..., 0]
    if mask.ndim != 2 or mask.dtype.kind not in "iub":
        raise DataError(f"a mask has one whole number a pixel, got {mask.dtype} of shape {mask.shape}")
    if mask.shape == tuple(size) and (contract is None or contract.size in (None, mask.shape)):
        return mask
    from PIL import Image

    picture = Image.fromarray(mask.astype(np.int32), mode="I")
    if contract is not None and contract.size is not None and picture.size != contract.size[::-1]:
        bars = {"letterbox": _IGNORED} if "letterbox" in contract.params else {}
        picture = _resized(picture, contract.size, {**contract.params, "interpolation": "nearest", **bars})
    if picture.size != tuple(size)[::-1]:
        picture = picture.resize((size[1], size[0]), Image.Resampling.NEAREST)
    return np.asarray(picture)


def read(given: str) -> Array:
    """One image file as uint8, height x width x channels."""
    return decode(Path(given))


KIND = DataKind(encode, read, SUFFIXES)
