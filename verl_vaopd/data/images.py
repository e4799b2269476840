"""Is an encoded image readable and of a size that can be used, and which RGB pixels does it hold?

Its bytes are never changed. What every reader sees (vLLM, both views of the teacher, the student) is :func:`as_rgb`.
"""

import hashlib
import io
import warnings

import numpy as np
from PIL import Image, ImageOps

from verl_vaopd.data.bad_rows import RowError

MAX_PIXELS = 89_478_485  # Pillow's own warning limit, a quarter of 2**30 bytes of RGB
MAX_BYTES = 64 * 2**20  # of one encoded image
MAX_ASPECT = 200  # Qwen3-VL's image processor refuses longer strips
OVERSIZED = "shrink it in the source (nothing is resized here), or take the row out (verl-vaopd data: --on-error skip)"
UNREADABLE = "replace it in the source or take the row out (verl-vaopd data: --on-error skip)"


def as_rgb(image: Image.Image) -> Image.Image:
    """The first frame as 8-bit RGB, upright, without metadata; what is already so comes back unchanged in its pixels.

    EXIF orientation is applied; transparency is laid over white; 16 bits are scaled to 8, not clipped. Colour profiles
    are not applied.

    Raises:
        ValueError: pixels without a defined white (32-bit integers above 65,535, floating point), or a colour space
            that Pillow does not convert.
    """
    key = _transparent_colour(image)  # before its pixels are loaded
    frame = ImageOps.exif_transpose(image)
    if key is not None:
        frame.info["transparency"] = key
    if frame.mode.startswith("I"):  # I;16 and its byte orders, or 16-bit samples in 32 bits
        samples = np.asarray(frame)
        if samples.min() < 0 or samples.max() > 65535:
            raise ValueError("32-bit samples outside 0 to 65,535 have no defined white: save it with 8 or 16 bits")
        scaled = np.rint(samples / 257).astype(np.uint8)  # 65535 / 257 = 255
        if key is not None:
            scaled[samples == key] = 255
        frame = Image.fromarray(scaled)
    elif frame.mode == "F":
        raise ValueError("floating-point samples have no defined white: save it with 8 or 16 bits")
    elif frame.mode == "LAB":  # Pillow would convert it, of TIFF with another meaning of a and b than the file's
        raise ValueError("LAB is not converted: save it as RGB")
    if frame.has_transparency_data:
        frame = frame.convert("RGBA")
        frame = Image.alpha_composite(Image.new("RGBA", frame.size, "white"), frame)
    rgb = frame.convert("RGB")
    rgb.info = {}
    return rgb


def _transparent_colour(image: Image.Image) -> int | tuple[int, ...] | bytes | None:
    """A PNG's one transparent colour (of a palette: its opacities), as Pillow's samples hold it; None if there is none.

    The file names it at its own depth, which Pillow knows until it has loaded the pixels. Of 16 bits a channel Pillow
    keeps the upper 8, so colours that share those count as the transparent one.
    """
    key = image.info.get("transparency")
    rawmode = image.tile[0].args if image.format == "PNG" and image.tile else None
    if key is None or rawmode not in ("L;2", "L;4", "RGB;16B"):
        return key
    if rawmode == "RGB;16B":
        return tuple(sample >> 8 for sample in key)
    bits = int(rawmode[-1])
    return key % 2**bits * (255 // (2**bits - 1))  # the bits above the depth say nothing


def check_image(data: bytes | None, field: str) -> tuple[int, int]:
    """Decode the whole image.

    Returns:
        Width and height as every reader sees them, pixels.
    Raises:
        RowError: no bytes, not an image, cut off, without pixels, more than MAX_BYTES or MAX_PIXELS, longer than 200
            to 1, or no RGB can be made of it.
    """
    if not data:
        raise RowError(field, "unreadable_image", "holds no image bytes", UNREADABLE)
    if len(data) > MAX_BYTES:
        problem = f"{len(data):,} bytes are over the limit of {MAX_BYTES:,}"
        raise RowError(field, "oversized_image", problem, OVERSIZED)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # its limit is checked below
        warnings.simplefilter("ignore", UserWarning)  # odd metadata
        try:
            image = Image.open(io.BytesIO(data))
        except Image.DecompressionBombError as error:
            raise RowError(field, "oversized_image", str(error).rstrip("."), OVERSIZED) from error
        except Exception as error:  # decoders raise whatever a damaged file leads them to
            raise RowError(
                field, "unreadable_image", f"not a readable image ({_one_line(error)})", UNREADABLE
            ) from error
        width, height = image.size
        if width < 1 or height < 1:
            raise RowError(field, "image_shape", f"{width} x {height} has no pixels", UNREADABLE)
        if width * height > MAX_PIXELS:
            problem = f"{width} x {height} is over the limit of {MAX_PIXELS:,} pixels"
            raise RowError(field, "oversized_image", problem, OVERSIZED)
        if max(width, height) > MAX_ASPECT * min(width, height):
            problem = f"{width} x {height} is longer than {MAX_ASPECT} to 1"
            raise RowError(field, "image_shape", problem, UNREADABLE)
        try:
            return as_rgb(image).size
        except Exception as error:  # as above
            raise RowError(field, "unreadable_image", f"cannot be decoded ({_one_line(error)})", UNREADABLE) from error


def pixel_digest(data: bytes) -> str:
    """SHA-256 of size and RGB pixels: equal for images that look the same, however they are encoded."""
    image = as_rgb(Image.open(io.BytesIO(data)))
    return hashlib.sha256(f"{image.size}".encode() + image.tobytes()).hexdigest()


def _one_line(error: Exception) -> str:
    text = str(error).split("<_io.BytesIO")[0].strip().rstrip(".")
    return " ".join(text.split())[:120] or type(error).__name__
