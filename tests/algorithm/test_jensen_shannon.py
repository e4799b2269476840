import math

import pytest
import torch

from verl_vaopd.algorithm import generalised_jsd, reverse_kl

from . import reference

BETAS = [0.1, 0.5, 0.75]


def logits(*probabilities):
    return torch.tensor(probabilities, dtype=torch.float64).log()


def pair(seed=0, rows=25, vocab_size=17, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    return [scale * torch.randn(rows, vocab_size, generator=generator, dtype=torch.float64) for _ in range(2)]


def test_worked_example():
    # p_T = (3/4, 1/4), p_S = (1/4, 3/4), beta = 1/2: m = (1/2, 1/2), and both KLs to it are
    # 3/4 ln(3/2) + 1/4 ln(1/2) = 0.130812.
    jsd = generalised_jsd(logits(1 / 4, 3 / 4), logits(3 / 4, 1 / 4), 0.5)
    assert jsd.item() == pytest.approx(0.130812, abs=1e-6)
    assert jsd.item() == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5), rel=1e-12)


def test_worked_example_in_which_beta_weighs_the_teacher():
    # p_T = (3/4, 1/4), p_S = (1/2, 1/2), beta = 1/4: m = 1/4 p_T + 3/4 p_S = (9/16, 7/16).
    # KL(p_T || m) = 3/4 ln(4/3) + 1/4 ln(4/7) = 0.075858; KL(p_S || m) = 1/2 ln(8/9) + 1/2 ln(8/7) = 0.007874
    # D = 1/4 * 0.075858 + 3/4 * 0.007874 = 0.024870.
    # beta = 3/4: m = (11/16, 5/16). KL(p_T || m) = 3/4 ln(12/11) + 1/4 ln(4/5) = 0.009473;
    # KL(p_S || m) = 1/2 ln(8/11) + 1/2 ln(8/5) = 0.075775; D = 3/4 * 0.009473 + 1/4 * 0.075775 = 0.026048.
    teacher, student = logits(3 / 4, 1 / 4), logits(1 / 2, 1 / 2)
    assert generalised_jsd(student, teacher, 0.25).item() == pytest.approx(0.024870, abs=1e-6)
    assert generalised_jsd(student, teacher, 0.75).item() == pytest.approx(0.026048, abs=1e-6)


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("scale", [0.1, 1.0, 5.0, 50.0])
def test_equals_the_reference_on_random_rows(beta, scale):
    student, teacher = pair(scale=scale)
    rows = zip(student.tolist(), teacher.tolist(), strict=True)
    expected = torch.tensor([reference.generalised_jsd(s, t, beta) for s, t in rows], dtype=torch.float64)
    torch.testing.assert_close(generalised_jsd(student, teacher, beta), expected, rtol=1e-12, atol=1e-15)
    in_float32 = generalised_jsd(student.float(), teacher.float(), beta)
    torch.testing.assert_close(in_float32, expected.float(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("zero, one", [(0, 1), (0.0, 1.0)])
def test_the_ends_are_forward_and_reverse_kl_to_the_bit(zero, one):
    student, teacher = (x.float() for x in pair())
    assert torch.equal(generalised_jsd(student, teacher, zero), reverse_kl(teacher, student))  # KL(p_T || p_S)
    assert torch.equal(generalised_jsd(student, teacher, one), reverse_kl(student, teacher))  # KL(p_S || p_T)


@pytest.mark.parametrize("beta", BETAS)
def test_swapping_the_models_is_swapping_beta(beta):
    student, teacher = pair()
    swapped = generalised_jsd(teacher, student, 1 - beta)
    torch.testing.assert_close(generalised_jsd(student, teacher, beta), swapped, rtol=1e-12, atol=0)
    differs = (generalised_jsd(teacher, student, beta) - swapped).abs().max()
    assert differs < 1e-12 if beta == 0.5 else differs > 1e-3  # symmetric at 1/2 only


@pytest.mark.parametrize("beta", BETAS)
def test_lies_between_zero_and_the_entropy_of_beta(beta):
    # The most is reached by models that share no token: m is beta p_T here and (1 - beta) p_S there, and
    # D = -beta ln(beta) - (1 - beta) ln(1 - beta), ln 2 at 1/2.
    most = -beta * math.log(beta) - (1 - beta) * math.log(1 - beta)
    jsd = torch.cat([generalised_jsd(*pair(seed=1, scale=scale), beta) for scale in (0.01, 1.0, 20.0)])
    assert (jsd > 0).all() and (jsd <= most).all()
    apart = torch.tensor([[1e4, 0.0], [0.0, 1e4]])
    torch.testing.assert_close(generalised_jsd(*apart, beta).item(), most, rtol=1e-6, atol=0)
    if beta == 0.5:
        assert most == pytest.approx(math.log(2))


@pytest.mark.parametrize("beta", [0, 1e-12, *BETAS, 1 - 1e-12, 1])
def test_is_zero_for_equal_models(beta):
    student, _ = pair()
    assert generalised_jsd(student, student, beta).abs().max() < 1e-14
    assert generalised_jsd(student.float(), student.float(), beta).abs().max() < 1e-6


@pytest.mark.parametrize("beta", [0, 0.3, 1])
def test_gradients_are_right_for_both_models(beta):
    models = [x.requires_grad_() for x in pair(rows=2, vocab_size=4)]
    assert torch.autograd.gradcheck(lambda s, t: generalised_jsd(s, t, beta), models)


@pytest.mark.parametrize("beta", [1e-300, 1e-12, *BETAS, 1 - 1e-12])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_is_finite_with_its_gradient_where_probabilities_vanish(beta, dtype):
    student = torch.tensor([1e4, 0.0, -1e4], dtype=dtype, requires_grad=True)
    teacher = torch.tensor([-1e4, 0.0, 1e4], dtype=dtype)
    jsd = generalised_jsd(student, teacher, beta)
    jsd.backward()
    assert jsd.isfinite() and student.grad.isfinite().all()


@pytest.mark.parametrize("beta", [0, 0.3, 1])
def test_padded_logits_are_in_neither_softmax(beta):
    student, teacher = torch.randn(2, 3, 7), torch.randn(2, 3, 9)
    padded = student.clone()
    padded[..., 5:] = float("nan")
    jsd = generalised_jsd(padded, teacher, beta, vocab_size=5)
    assert jsd.shape == (2, 3)
    torch.testing.assert_close(jsd, generalised_jsd(student[..., :5], teacher[..., :5], beta))


def test_half_precision_logits_are_summed_in_float32_and_dtypes_may_differ():
    student, teacher = torch.randn(4, 50).bfloat16(), torch.randn(4, 50).bfloat16()
    jsd = generalised_jsd(student, teacher, 0.3)
    assert jsd.dtype == torch.float32 and torch.equal(jsd, generalised_jsd(student.float(), teacher.float(), 0.3))
    mixed = generalised_jsd(student.double(), teacher, 0.3)
    assert mixed.dtype == torch.float64
    torch.testing.assert_close(mixed.float(), jsd)


@pytest.mark.parametrize("beta", [-0.1, 1.1, float("nan"), float("inf"), True, False])
def test_refuses_a_beta_that_is_no_fraction(beta):
    with pytest.raises(ValueError, match=f"beta must be a number from 0 to 1, got {beta}"):
        generalised_jsd(torch.zeros(2), torch.zeros(2), beta)


@pytest.mark.parametrize("beta", [0, 0.5, 1])
def test_refuses_what_reverse_kl_refuses(beta):
    with pytest.raises(ValueError, match=r"teacher_logits has shape \[3, 5\]"):
        generalised_jsd(torch.zeros(2, 5), torch.zeros(3, 5), beta)
    with pytest.raises(ValueError, match="vocab_size 6 is larger than student_logits, which has 5"):
        generalised_jsd(torch.zeros(2, 5), torch.zeros(2, 6), beta, vocab_size=6)
    with pytest.raises(ValueError, match="teacher_logits is not finite.*row 1"):
        generalised_jsd(torch.zeros(2, 2), torch.tensor([[0.0, 0.0], [0.0, math.inf]]), beta)
