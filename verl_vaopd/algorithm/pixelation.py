"""The degraded view of an image: fine detail gone, layout, colour and number of visual tokens kept (Section 2.1)."""

from PIL import Image

# Modes whose values are no intensities to be averaged: black-and-white, palette indices, circular hue.
_AVERAGED_AS = {"1": "L", "P": "RGB", "PA": "RGBA", "HSV": "RGB"}


def pixelate(image: Image.Image, ratio: float = 0.10) -> Image.Image:
    """Blur an image to ``ratio`` of its resolution: bilinear down, nearest-neighbour up (Section 2.1).

    Palette images are averaged in RGB (RGBA where they have transparency) and quantised to a palette of their own;
    black-and-white ones are averaged in grey and cut at the middle; other modes are averaged as they are, alpha too.

    Args:
        image: any mode, at least one pixel; left as it is.
        ratio: share of each side that is kept, in (0, 1]; a side keeps ``max(1, int(ratio * side))`` pixels, as in
            the authors' release.
    Returns:
        A new image of the same size and mode.
    Raises:
        ValueError: ``ratio`` outside (0, 1], or an image without pixels.
    """
    work = averageable(image, ratio)
    small = work.resize([max(1, int(side * ratio)) for side in image.size], Image.Resampling.BILINEAR)
    return to_mode(small, image.mode).resize(image.size, Image.Resampling.NEAREST)


def averageable(image: Image.Image, ratio: float) -> Image.Image:
    """The image in a mode whose values may be averaged; what the degradations share and refuse alike."""
    if not 0 < ratio <= 1:
        raise ValueError(f"ratio must lie in (0, 1], got {ratio}")
    if 0 in image.size:
        raise ValueError(f"image has size {image.width} x {image.height}; it needs at least one pixel")
    transparent = image.mode == "P" and image.has_transparency_data
    return image.convert("RGBA" if transparent else _AVERAGED_AS.get(image.mode, image.mode))


def to_mode(image: Image.Image, mode: str) -> Image.Image:
    """Back to the mode that :func:`averageable` was given."""
    if image.mode == mode:
        return image
    if mode == "1":
        return image.convert("1", dither=Image.Dither.NONE)  # dithering would draw detail that is not there
    if mode == "P":
        return image.quantize(dither=Image.Dither.NONE)
    return image.convert(mode)
