"""The masked view of PAPO: random patches of the image are black (https://arxiv.org/abs/2507.06448)."""

import random

from PIL import Image


def blacken_patches(image: Image.Image, rng: random.Random, ratio: float = 0.6, patch_size: int = 14) -> Image.Image:
    """Blacken each patch of ``patch_size`` x ``patch_size`` pixels with probability ``ratio``.

    Args:
        image: RGB; left as it is. Patches start at the upper left corner; those at the other edges may be cut.
        rng: draws once a patch, row by row.
    Returns:
        A new image of the same size.
    Raises:
        ValueError: another mode than RGB, ``ratio`` outside [0, 1], or a patch without pixels.
    """
    if image.mode != "RGB":
        raise ValueError(f"the image is {image.mode}; convert it to RGB")
    if not 0 <= ratio <= 1 or patch_size < 1:
        raise ValueError(f"ratio must lie in [0, 1] and patch_size be 1 or more, got {ratio} and {patch_size}")
    masked = image.copy()
    for top in range(0, image.height, patch_size):
        for left in range(0, image.width, patch_size):
            if rng.random() < ratio:
                masked.paste((0, 0, 0), (left, top, left + patch_size, top + patch_size))
    return masked
