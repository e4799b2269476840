import numpy as np
import pytest
from PIL import Image

from verl_vaopd.algorithm import pixelate

MODES = ["1", "L", "P", "PA", "LA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "I", "F", "I;16", "I;16B"]


def noise(width, height, mode="RGB"):
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    if mode == "LAB":
        return Image.merge("LAB", image.split())
    if mode == "PA":
        return image.convert("RGBA").convert("PA")
    if mode.startswith("I;16"):
        return image.convert("L").convert("I").convert(mode)
    return image.convert("L").convert(mode) if mode in ("I", "F", "LA") else image.convert(mode)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [(64, 40), (7, 1), (1, 1), (33, 95)])
def test_size_and_mode_stay(mode, size):
    image = noise(*size, mode)
    assert image.mode == mode
    before = image.tobytes()
    result = pixelate(image)
    assert (result.mode, result.size) == (mode, size)
    assert result is not image and image.tobytes() == before


def test_worked_example_at_half_resolution():
    image = Image.fromarray(np.array([[0, 0, 200, 200]] * 2, dtype=np.uint8))
    # 4 columns become 2. The left one has its centre at 1 and a triangle of half width 2: columns at 0.5, 1.5, 2.5
    # weigh .75 .75 .25, together 1.75: 200 * .25 / 1.75 = 28.6; the right one, by symmetry, 200 - 28.6 = 171.4
    assert np.asarray(pixelate(image, 0.5)).tolist() == [[29, 29, 171, 171]] * 2


def test_a_constant_image_is_left_alone_and_full_ratio_keeps_every_pixel():
    flat = Image.new("RGB", (50, 30), (12, 200, 7))
    assert pixelate(flat).tobytes() == flat.tobytes()
    image = noise(20, 10)
    assert pixelate(image, 1.0).tobytes() == image.tobytes()


def test_tenth_resolution_is_blocks_of_ten():
    pixels = np.asarray(pixelate(noise(60, 40)))
    blocks = pixels.reshape(4, 10, 6, 10, 3)
    assert (blocks == blocks[:, :1, :, :1]).all()
    assert len(np.unique(blocks[:, 0, :, 0].reshape(-1, 3), axis=0)) == 24  # 6 x 4 different averages


def test_a_thin_line_vanishes_and_layout_stays():
    # black left half, white right half, a grey line of one pixel in the white
    pixels = np.zeros((100, 100), dtype=np.uint8)
    pixels[:, 50:] = 255
    pixels[:, 75] = 100
    result = np.asarray(pixelate(Image.fromarray(pixels))).astype(int)
    assert result[:, :40].max() == 0 and result[:, 90:].min() == 255
    assert result[:, 70:80].min() > 220


def test_sides_shorter_than_a_block_keep_one_pixel():
    # int(0.1 * 4) = 0, so 1: every pixel is the average
    assert len(np.unique(np.asarray(pixelate(noise(4, 4).convert("L"))))) == 1


def test_palette_images_are_averaged_by_colour_not_by_index():
    # red and blue stripes: the average of each block is purple, whatever lies between their indices in the palette
    stripes = Image.new("P", (40, 40))
    stripes.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])  # 0 red, 1 green, 2 blue
    stripes.putdata([0 if x % 2 else 2 for _ in range(40) for x in range(40)])
    red, green, blue = np.asarray(pixelate(stripes).convert("RGB")).reshape(-1, 3).T
    assert green.max() == 0 and abs(red.mean() - 127.5) < 8 and abs(blue.mean() - 127.5) < 8


def test_black_and_white_is_not_dithered():
    # a dense half: grey averages of about 3/4 white, one in four pixels black, turn white as a whole
    pixels = np.ones((40, 40), dtype=bool)
    pixels[::2, ::2] = False
    assert np.asarray(pixelate(Image.fromarray(pixels))).all()


def test_alpha_is_kept():
    image = noise(40, 40).convert("RGBA")
    image.putalpha(90)
    assert pixelate(image).getchannel("A").getextrema() == (90, 90)
    assert pixelate(image.quantize()).convert("RGBA").getchannel("A").getextrema() == (90, 90)


def test_palette_images_with_a_transparent_index_stay_transparent_there():
    image = Image.new("P", (40, 20), 0)
    image.putpalette([255, 255, 255, 0, 0, 0])
    image.paste(1, (20, 0, 40, 20))
    image.info["transparency"] = 0
    result = pixelate(image).convert("RGBA")
    assert result.getpixel((2, 2))[3] == 0 and result.getpixel((37, 2)) == (0, 0, 0, 255)


@pytest.mark.parametrize("ratio", [0.0, -0.1, 1.01, float("nan")])
def test_refuses_a_ratio_outside_the_interval(ratio):
    with pytest.raises(ValueError, match=r"ratio must lie in \(0, 1\]"):
        pixelate(Image.new("RGB", (4, 4)), ratio)


@pytest.mark.parametrize("size", [(0, 4), (4, 0)])
def test_refuses_an_image_without_pixels(size):
    with pytest.raises(ValueError, match="at least one pixel"):
        pixelate(Image.new("RGB", size))


def test_hue_is_averaged_as_colour():
    # hues 0 and 250 of 256 are both red; the mean of the two numbers, 125, would be green
    hue = np.zeros((20, 20), dtype=np.uint8)
    hue[:, ::2] = 250
    full = Image.new("L", (20, 20), 255)
    image = Image.merge("HSV", (Image.fromarray(hue), full, full))
    red, green, blue = np.asarray(pixelate(image).convert("RGB")).reshape(-1, 3).T
    assert red.min() > 240 and green.max() < 30 and blue.max() < 30
