"""PAPO's terms, worked out by hand; its masked view."""

import math
import random

import pytest
import torch
from PIL import Image

from verl_vaopd.algorithm import blacken_patches, perception_kl, perception_terms

LN2 = math.log(2)


def test_kl_by_hand():
    # p = 1/2 under the image. Masked 1/4: r = 1/2, 1/2 + ln 2 - 1. Masked 1/2: 0. Masked 1: r = 2, 2 - ln 2 - 1.
    log_p = torch.full((3,), -LN2, dtype=torch.float64)
    masked = torch.tensor([-2 * LN2, -LN2, 0.0], dtype=torch.float64)
    expected = torch.tensor([LN2 - 0.5, 0.0, 1 - LN2], dtype=torch.float64)
    torch.testing.assert_close(perception_kl(log_p, masked), expected)


def test_kl_is_unbiased_under_the_policys_samples():
    # Two tokens, p = (3/4, 1/4) given the image, (1/2, 1/2) masked: the mean over p is 3/4 ln(3/2) + 1/4 ln(1/2).
    p, q = torch.tensor([0.75, 0.25]), torch.tensor([0.5, 0.5])
    mean = (p * perception_kl(p.log(), q.log())).sum()
    assert float(mean) == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5), rel=1e-6)


def test_kl_beyond_ten_nats_pulls_no_further():
    log_p = torch.tensor([-0.1], requires_grad=True)
    kl = perception_kl(log_p, torch.tensor([-15.0]))
    kl.backward()
    assert kl.item() == 10.0 and log_p.grad.item() == 0.0


def test_terms_and_their_gradient_by_hand():
    # Masked p = 1/4 for p = 1/2: KL = ln 2 - 1/2, H = ln 2, H_masked = 2 ln 2.
    log_p = torch.tensor([-LN2], dtype=torch.float64, requires_grad=True)
    masked = torch.tensor([-2 * LN2], dtype=torch.float64, requires_grad=True)
    terms = perception_terms(log_p, masked, perception_weight=0.1, entropy_weight=0.02, masked_entropy_weight=0.03)
    assert terms.item() == pytest.approx(-0.1 * (LN2 - 0.5) + 0.02 * LN2 + 0.03 * 2 * LN2)
    terms.backward()
    # dKL/dlog p = 1 - r = 1/2, dKL/dlog p_masked = r - 1 = -1/2: descent moves the two apart.
    assert log_p.grad.item() == pytest.approx(-0.1 * 0.5 - 0.02)
    assert masked.grad.item() == pytest.approx(0.1 * 0.5 - 0.03)


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="masked_log_probs has shape"):
        perception_kl(torch.zeros(3), torch.zeros(2))


def test_patches_are_black_or_as_they_were():
    image = Image.new("RGB", (140 + 3, 140), (200, 10, 90))
    masked = blacken_patches(image, random.Random(0), ratio=0.6)
    black = 0
    for top in range(0, 140, 14):
        for left in range(0, 143, 14):
            colours = masked.crop((left, top, min(left + 14, 143), top + 14)).getcolors()
            assert len(colours) == 1 and colours[0][1] in ((200, 10, 90), (0, 0, 0))
            black += colours[0][1] == (0, 0, 0)
    assert masked.size == image.size and image.getcolors() == [(143 * 140, (200, 10, 90))]
    assert 0.5 < black / 110 < 0.7  # 0.6 expected, standard deviation 0.047
    assert blacken_patches(image, random.Random(0), 0.6) == masked  # the generator decides
    assert blacken_patches(image, random.Random(1), 0.6) != masked
    assert blacken_patches(image, random.Random(0), 0.0) == image


@pytest.mark.parametrize("change, says", [({"ratio": 1.2}, "ratio must lie"), ({"patch_size": 0}, "patch_size")])
def test_wrong_masks_are_refused(change, says):
    with pytest.raises(ValueError, match=says):
        blacken_patches(Image.new("RGB", (8, 8)), random.Random(0), **change)
    with pytest.raises(ValueError, match="is L; convert it to RGB"):
        blacken_patches(Image.new("L", (8, 8)), random.Random(0))
