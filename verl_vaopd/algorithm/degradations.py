"""Ways to take fine detail out of an image, one interface: ``degrade(image, ratio)``, same size and mode (Section 2.1).

``ratio`` is the share that is kept: of the resolution, or of the patches. Pixelation is the paper's; the others ask
whether visual advantage depends on how the detail was taken away.
"""

import math
import random
import zlib

from PIL import Image, ImageFilter

from verl_vaopd.algorithm.pixelation import averageable, pixelate, to_mode

PATCH = 16
"""Side of a masked patch in pixels: that of a patch of Qwen3-VL's vision encoder."""


def gaussian_blur(image: Image.Image, ratio: float = 0.10) -> Image.Image:
    """Blur by 1 / (ratio * sqrt(12)) pixels, the standard deviation of a block of ``1 / ratio`` pixels.

    Args:
        image: a mode of 8-bit channels, or palette or black-and-white; left as it is.
        ratio: share of the resolution that is kept, in (0, 1].
    Returns:
        A new image of the same size and mode: as coarse as pixelation, without its block edges.
    Raises:
        ValueError: ``ratio`` outside (0, 1], an image without pixels, or of more than 8 bits a channel.
    """
    work = averageable(image, ratio)
    if work.mode[0] in "IF":
        raise ValueError(f"an image of mode {image.mode} cannot be blurred; convert it to RGB first")
    blur = ImageFilter.GaussianBlur(1 / (ratio * math.sqrt(12)))
    return to_mode(Image.merge(work.mode, [channel.filter(blur) for channel in work.split()]), image.mode)


def mask_patches(image: Image.Image, ratio: float = 0.10) -> Image.Image:
    """Give all but ``ratio`` of the patches of 16 x 16 pixels the image's average colour.

    Which ones is drawn at random, seeded by the pixels: an image's view is the same wherever and whenever it is made.

    Args:
        image: any mode; left as it is.
        ratio: share of the patches that stay, in (0, 1]; ``round(ratio * patches)`` of them do.
    Returns:
        A new image of the same size and mode.
    Raises:
        ValueError: ``ratio`` outside (0, 1], or an image without pixels.
    """
    work = averageable(image, ratio)
    corners = [(x, y) for y in range(0, image.height, PATCH) for x in range(0, image.width, PATCH)]
    kept = Image.new("L", image.size)
    for x, y in random.Random(zlib.crc32(image.tobytes())).sample(corners, round(ratio * len(corners))):
        kept.paste(255, (x, y, x + PATCH, y + PATCH))
    return to_mode(Image.composite(work, _average(work), kept), image.mode)


def blank(image: Image.Image, ratio: float = 0.10) -> Image.Image:
    """One colour, the image's average: no content is kept, not even the layout.

    Args:
        image: any mode; left as it is.
        ratio: not used.
    Returns:
        A new image of the same size and mode.
    Raises:
        ValueError: an image without pixels.
    """
    return to_mode(_average(averageable(image, 1.0)), image.mode)


def _average(image: Image.Image) -> Image.Image:
    return image.resize((1, 1), Image.Resampling.BOX).resize(image.size, Image.Resampling.NEAREST)


DEGRADATIONS = {
    "pixelation": pixelate,
    "gaussian_blur": gaussian_blur,
    "patch_masking": mask_patches,
    "blank": blank,
}
"""What ``vaopd.degradation`` may name."""
