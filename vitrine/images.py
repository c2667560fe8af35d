"""The one image decoder: features, evaluation, bulk embedding and serving all call `decode`.

What was trained on is therefore what is served. The decoder's id and its settings are part of a
version's digest, so a change here that moves pixels must change `DECODER`.
Scaling to [0, 1], mean, standard deviation and layout are inside the exported graph.
"""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from vitrine.errors import BadInput

DECODER = "pillow-1"
MAX_BYTES = 20_000_000
MAX_PIXELS = 50_000_000
_BAND_PIXELS = 1_000_000  # of a large image, this many are brought to RGB at a time
_MOST_RESIZED = 4_000_000  # pixels of a resized image that are made although most of them are cut off
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
"""Formats that shops use; Pillow knows more, some of which start other programs."""

# Pillow warns of large or odd files before our own limits speak. Once for the process: `catch_warnings` swaps a list
# that all threads share, so two decoding threads could leave it swapped for good.
warnings.filterwarnings("ignore", module=r"PIL\.")

ResizeMode = Literal["crop", "squash", "pad"]
Interpolation = Literal["bilinear", "bicubic", "lanczos", "nearest"]

_FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "nearest": Image.Resampling.NEAREST,
}
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""By EXIF orientation (CIPA DC-008, 4.6.4), what turns an image upright."""


class Large(Exception):
    """An image that takes more memory than its caller allowed for; decode it again without `most_pixels`."""


@dataclass(frozen=True)
class ImageSpec:
    """How a photo becomes a `uint8 (height, width, 3)` array.

    Attributes:
        resize: `crop` scales the shorter side to `size / crop_fraction` and cuts the centre out,
            `squash` ignores the aspect ratio, `pad` fits the longer side and fills with `fill`.
        crop_fraction: share of the resized image that the centre crop keeps, in (0, 1].
        fill: grey value, 0-255, of padding.
    """

    height: int
    width: int
    resize: ResizeMode = "crop"
    crop_fraction: float = 1.0
    interpolation: Interpolation = "bicubic"
    fill: int = 255
    decoder: str = DECODER

    def __post_init__(self) -> None:
        """Refuse settings that no decoder could follow."""
        object.__setattr__(self, "crop_fraction", float(self.crop_fraction))  # 1 and 1.0 are one digest
        if not (1 <= self.height <= 4096 and 1 <= self.width <= 4096):
            raise BadInput(f"image size {self.height}x{self.width} is outside 1..4096")
        if self.resize not in get_args(ResizeMode):
            raise BadInput(f"resize {self.resize!r} is none of {', '.join(get_args(ResizeMode))}")
        if self.interpolation not in get_args(Interpolation):
            raise BadInput(f"interpolation {self.interpolation!r} is none of {', '.join(get_args(Interpolation))}")
        if not 0 < self.crop_fraction <= 1:
            raise BadInput(f"crop_fraction {self.crop_fraction} is outside (0, 1]")
        if self.decoder != DECODER:
            raise BadInput(
                f"decoder {self.decoder!r} is unknown here, this release has {DECODER!r}; "
                "use the release that made the version, or register it again with this one"
            )


def decode(data: bytes, spec: ImageSpec, *, most_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Decode one encoded image to `uint8 (height, width, 3)`.

    EXIF orientation is applied, transparency is laid over white, only the first frame is read.

    Args:
        data: the encoded image.
        spec: what it is brought to.
        most_pixels: pixels to hold in memory, after a JPEG was scaled down while it was read.

    Raises:
        BadInput: empty, too large, truncated, or no image.
        Large: it would take more than `most_pixels`; nothing of it was decoded.
    """
    if not data:
        raise BadInput("the image is empty (0 bytes); send the bytes of a JPEG, PNG or WebP file")
    if len(data) > MAX_BYTES:
        raise BadInput(f"the image has {len(data)} bytes, at most {MAX_BYTES} are allowed; resize it first")
    try:
        return _decode(data, spec, most_pixels)
    except UnidentifiedImageError as error:  # its own text holds a memory address, which no report can repeat
        known = ", ".join(FORMATS)
        raise BadInput(
            f"the image ({len(data)} bytes) cannot be read: it is none of {known}; send one of them"
        ) from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise BadInput(
            f"the image ({len(data)} bytes) cannot be read: {error}; send a whole JPEG, PNG or WebP file"
        ) from error


def _decode(data: bytes, spec: ImageSpec, most_pixels: int) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        if image.width * image.height > MAX_PIXELS:
            raise BadInput(
                f"the image is {image.width}x{image.height}, at most {MAX_PIXELS} pixels are allowed; resize it first"
            )
        # A JPEG can be decoded at 1/2, 1/4 or 1/8 scale; twice the target keeps the resize sharp.
        target = round(2 * max(spec.height, spec.width) / spec.crop_fraction)
        whole = image.width * image.height
        image.draft("RGB", (target, target))
        # A progressive JPEG is held whole, as coefficients, however small it is decoded.
        if (whole if "progressive" in image.info else image.width * image.height) > most_pixels:
            raise Large
        # Not ImageOps.exif_transpose: it also writes the other EXIF fields anew, and fails where one of them is damaged.
        turn = _UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation, 1))
        rgb = _flatten(image)
    if turn is not None:
        rgb = rgb.transpose(turn)
    return np.asarray(_resize(rgb, spec), dtype=np.uint8)


def _flatten(image: Image.Image) -> Image.Image:
    """Any mode to RGB; transparent pixels become white, 16-bit grey keeps its range."""
    if image.mode == "RGB" and "transparency" not in image.info:
        image.load()
        return image
    rows = max(1, _BAND_PIXELS // image.width)
    if image.height <= rows:
        return _flat(image)
    flat = Image.new("RGB", image.size)  # band by band: the steps of `_flat` hold a copy each
    for top in range(0, image.height, rows):
        box = (0, top, image.width, min(top + rows, image.height))
        flat.paste(_flat(image.crop(box)), box)
    return flat


def _flat(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image, dtype=np.uint32) >> 8).astype(np.uint8))
    if "A" in image.getbands() or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def _resize(image: Image.Image, spec: ImageSpec) -> Image.Image:
    size, method = (spec.width, spec.height), _FILTERS[spec.interpolation]
    if spec.resize == "squash":
        return image.resize(size, method)
    if spec.resize == "pad":
        return ImageOps.pad(image, size, method, color=(spec.fill,) * 3)
    scale = max(spec.height / image.height, spec.width / image.width) / spec.crop_fraction
    width = max(spec.width, round(image.width * scale))
    height = max(spec.height, round(image.height * scale))
    left, top = (width - spec.width) // 2, (height - spec.height) // 2
    if width * height > _MOST_RESIZED:  # a line of 20,000 x 1 pixels would become gigabytes, to be cut off again
        across, down = image.width / width, image.height / height
        box = (left * across, top * down, (left + spec.width) * across, (top + spec.height) * down)
        return image.resize(size, method, box=box)
    resized = image.resize((width, height), method)
    return resized.crop((left, top, left + spec.width, top + spec.height))
