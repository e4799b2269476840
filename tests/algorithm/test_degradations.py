import numpy as np
import pytest
from PIL import Image

from tests.algorithm.test_pixelation import MODES, noise
from verl_vaopd.algorithm import blank, gaussian_blur, mask_patches
from verl_vaopd.algorithm.degradations import DEGRADATIONS

DEEP = ("I", "F", "I;16", "I;16B")


@pytest.mark.parametrize("name", DEGRADATIONS)
@pytest.mark.parametrize("mode", MODES)
def test_size_and_mode_stay(name, mode):
    for size in ((64, 40), (7, 1), (33, 95)):
        image = noise(*size, mode)
        before = image.tobytes()
        if name == "gaussian_blur" and mode in DEEP:
            with pytest.raises(ValueError, match=f"mode {mode} cannot be blurred"):
                gaussian_blur(image)
            continue
        result = DEGRADATIONS[name](image, 0.1)
        assert (result.mode, result.size) == (mode, size)
        assert result is not image and image.tobytes() == before


@pytest.mark.parametrize("name", DEGRADATIONS)
def test_one_colour_stays_and_wrong_input_is_refused(name):
    flat = Image.new("RGB", (50, 30), (12, 200, 7))
    assert DEGRADATIONS[name](flat, 0.1).tobytes() == flat.tobytes()
    with pytest.raises(ValueError, match="at least one pixel"):
        DEGRADATIONS[name](Image.new("RGB", (0, 4)), 0.1)
    if name != "blank":
        with pytest.raises(ValueError, match=r"ratio must lie in \(0, 1\]"):
            DEGRADATIONS[name](flat, 0.0)


def test_blur_spreads_a_line_by_its_standard_deviation():
    # ratio 0.1: a block of 10 pixels has a standard deviation of 10 / sqrt(12) = 2.887 pixels
    line = Image.new("L", (101, 9))
    line.paste(255, (50, 0, 51, 9))
    weight = np.asarray(gaussian_blur(line, 0.1))[4].astype(float)
    place = np.arange(101)
    mean = (weight * place).sum() / weight.sum()
    assert mean == pytest.approx(50, abs=0.2)
    assert ((weight * (place - mean) ** 2).sum() / weight.sum()) ** 0.5 == pytest.approx(2.887, rel=0.1)


def test_the_share_of_patches_asked_for_stays():
    image = noise(160, 80)  # 10 x 5 patches of 16
    kept = np.asarray(mask_patches(image, 0.3)) == np.asarray(image)
    patches = kept.all(axis=2).reshape(5, 16, 10, 16).mean(axis=(1, 3))
    assert (patches == 1).sum() == 15  # round(0.3 * 50)
    assert (patches > 0.1).sum() == 15  # the others are of the average colour, which few pixels have
    assert np.array_equal(kept, np.asarray(mask_patches(image.copy(), 0.3)) == np.asarray(image))
    other = noise(160, 80).transpose(Image.Transpose.ROTATE_180)  # another image, other patches
    assert not np.array_equal(kept, np.asarray(mask_patches(other, 0.3)) == np.asarray(other))


def test_blank_is_the_average():
    halves = Image.new("RGB", (10, 4), (100, 0, 0))
    halves.paste((200, 0, 50), (5, 0, 10, 4))
    assert blank(halves).getcolors() == [(40, (150, 0, 25))]
