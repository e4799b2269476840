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
        ratio: share of each side that is kept, in (0, 1]; a side keeps ``max(1, round(ratio * side))`` pixels.
    Returns:
        A new image of the same size and mode.
    Raises:
        ValueError: ``ratio`` outside (0, 1], or an image without pixels.
    """
    if not 0 < ratio <= 1:
        raise ValueError(f"ratio must lie in (0, 1], got {ratio}")
    if 0 in image.size:
        raise ValueError(f"image has size {image.width} x {image.height}; it needs at least one pixel")
    transparent = image.mode == "P" and image.has_transparency_data
    averaged_as = "RGBA" if transparent else _AVERAGED_AS.get(image.mode, image.mode)
    size = tuple(max(1, round(ratio * side)) for side in image.size)
    small = image.convert(averaged_as).resize(size, Image.Resampling.BILINEAR)
    return _to_mode(small, image.mode).resize(image.size, Image.Resampling.NEAREST)


def _to_mode(small: Image.Image, mode: str) -> Image.Image:
    if small.mode == mode:
        return small
    if mode == "1":
        return small.convert("1", dither=Image.Dither.NONE)  # dithering would draw detail that is not there
    if mode == "P":
        return small.quantize(dither=Image.Dither.NONE)
    return small.convert(mode)
