"""Is an encoded image readable and of a size that can be used? Its bytes are never changed."""

import hashlib
import io
import warnings

from PIL import Image

from verl_vaopd.data.bad_rows import RowError

MAX_PIXELS = 89_478_485  # Pillow's own warning limit, a quarter of 2**30 bytes of RGB
MAX_BYTES = 64 * 2**20  # of one encoded image
MAX_ASPECT = 200  # Qwen3-VL's image processor refuses longer strips
OVERSIZED = "shrink it in the source (nothing is resized here) or leave the row out with --on-error skip"
UNREADABLE = "replace it in the source or leave the row out with --on-error skip"


def check_image(data: bytes | None, field: str) -> None:
    """Decode the whole image.

    Raises:
        RowError: no bytes, not an image, cut off, more than MAX_BYTES or MAX_PIXELS, or longer than 200 to 1.
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
        if width * height > MAX_PIXELS:
            problem = f"{width} x {height} is over the limit of {MAX_PIXELS:,} pixels"
            raise RowError(field, "oversized_image", problem, OVERSIZED)
        if max(width, height) > MAX_ASPECT * min(width, height):
            problem = f"{width} x {height} is longer than {MAX_ASPECT} to 1"
            raise RowError(field, "image_shape", problem, UNREADABLE)
        try:
            image.convert("RGB")
        except Exception as error:  # as above
            raise RowError(field, "unreadable_image", f"cannot be decoded ({_one_line(error)})", UNREADABLE) from error


def pixel_digest(data: bytes) -> str:
    """SHA-256 of size and RGB pixels: equal for images that look the same, however they are encoded."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    return hashlib.sha256(f"{image.size}".encode() + image.tobytes()).hexdigest()


def _one_line(error: Exception) -> str:
    text = str(error).split("<_io.BytesIO")[0].strip().rstrip(".")
    return " ".join(text.split())[:120] or type(error).__name__
