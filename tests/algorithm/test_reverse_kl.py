import math

import pytest
import torch

from verl_vaopd.algorithm import reverse_kl

from . import reference


def test_worked_example():
    # p_S = (1/2, 1/2), p_T = (1/4, 3/4): 1/2 ln 2 + 1/2 ln (2/3) = 1/2 ln (4/3) = 0.143841
    # (the forward KL would be 1/4 ln (1/2) + 3/4 ln (3/2) = 0.130812)
    kl = reverse_kl(torch.zeros(2), torch.tensor([0.0, math.log(3)]))
    torch.testing.assert_close(kl.item(), 0.5 * math.log(4 / 3), rtol=1e-6, atol=0)


def test_equals_the_reference_on_random_rows():
    generator = torch.Generator().manual_seed(0)
    for scale in (0.1, 1.0, 5.0, 50.0):
        student, teacher = (scale * torch.randn(25, 17, generator=generator, dtype=torch.float64) for _ in range(2))
        expected = [reference.reverse_kl(s, t) for s, t in zip(student.tolist(), teacher.tolist(), strict=True)]
        torch.testing.assert_close(reverse_kl(student, teacher), torch.tensor(expected, dtype=torch.float64))


def test_padded_logits_are_in_neither_softmax():
    student, teacher = torch.randn(2, 3, 7), torch.randn(2, 3, 9)
    padded = student.clone()
    padded[..., 5:] = float("nan")
    kl = reverse_kl(padded, teacher, vocab_size=5)
    assert kl.shape == (2, 3)
    torch.testing.assert_close(kl, reverse_kl(student[..., :5], teacher[..., :5]))


def test_half_precision_logits_are_summed_in_float32():
    student, teacher = torch.randn(4, 50).bfloat16(), torch.randn(4, 50).bfloat16()
    kl = reverse_kl(student, teacher)
    assert kl.dtype == torch.float32
    torch.testing.assert_close(kl, reverse_kl(student.float(), teacher.float()), rtol=0, atol=0)


def test_gradient_is_right():
    student = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(3, 5, dtype=torch.float64)
    assert torch.autograd.gradcheck(reverse_kl, (student, teacher))


@pytest.mark.parametrize(
    "student, teacher, vocab_size, message",
    [
        ((2, 5), (3, 5), None, r"teacher_logits has shape \[3, 5\]"),
        ((2, 5), (2, 6), None, r"teacher_logits has shape \[2, 6\]"),
        ((2, 5), (3, 6), 5, r"teacher_logits has shape \[3, 6\]"),
        ((2, 5), (2, 6), 6, "vocab_size 6 is larger than student_logits, which has 5"),
        ((2, 6), (2, 5), 6, "vocab_size 6 is larger than teacher_logits, which has 5"),
        ((2, 6), (2, 6), 0, "vocab_size must be at least 1"),
    ],
)
def test_refuses_sizes_that_do_not_fit(student, teacher, vocab_size, message):
    with pytest.raises(ValueError, match=message):
        reverse_kl(torch.zeros(student), torch.zeros(teacher), vocab_size)


@pytest.mark.parametrize("which", [0, 1])
def test_refuses_logits_that_are_not_finite(which):
    logits = [torch.zeros(3, 4), torch.zeros(3, 4)]
    logits[which][2, 1] = float("inf")
    with pytest.raises(ValueError, match=f"{('student', 'teacher')[which]}_logits is not finite.*row 2"):
        reverse_kl(*logits)
