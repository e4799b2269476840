"""Off-policy distillation's loss: by hand, against autograd, and its difference from the reverse KL."""

import math

import pytest
import torch

from tests.algorithm.test_fused_reverse_kl import V, close, gradients, inputs
from verl_vaopd.algorithm import fused_linear_forward_kl, fused_linear_reverse_kl


def fused(*tensors, **options):
    return fused_linear_forward_kl(*tensors, V, **options)


def plain(hidden, head, teacher_hidden, teacher_head, weights):
    log_s = (hidden @ head[:V].t()).log_softmax(-1)
    log_t = (teacher_hidden @ teacher_head[:V].t()).log_softmax(-1)
    kl = (log_t.exp() * (log_t - log_s)).sum(-1)
    return (weights * kl).sum(), kl


def test_worked_example():
    # Student logits 0 and 0: (1/2, 1/2). Teacher logits 0 and ln 3: (1/4, 3/4). The third rows are padding.
    # KL(T || S) = 1/4 ln(1/2) + 3/4 ln(3/2); its gradient by the student's logits is p_S - p_T = (1/4, -1/4).
    # Hidden states are 1, so that is the gradient of the head too; that of the hidden state is 0 * 1/4 - 0 * 1/4 = 0.
    student_head = torch.tensor([[0.0], [0.0], [9.0]], requires_grad=True)
    teacher_head = torch.tensor([[0.0], [math.log(3)], [9.0]])
    one = torch.ones(1, 1)
    loss, kl = fused_linear_forward_kl(one, student_head, one, teacher_head, torch.tensor([2.0]), vocab_size=2)
    loss.backward()
    expected = 0.25 * math.log(0.5) + 0.75 * math.log(1.5)
    assert kl.item() == pytest.approx(expected, rel=1e-6) and loss.item() == pytest.approx(2 * expected, rel=1e-6)
    torch.testing.assert_close(student_head.grad, 2 * torch.tensor([[0.25], [-0.25], [0.0]]))
    # The reverse KL of the same pair is 1/2 ln 2 + 1/2 ln(2/3).
    _, reverse = fused_linear_reverse_kl(one, student_head.detach(), one, teacher_head, torch.tensor([1.0]), 2)
    assert reverse.item() == pytest.approx(0.5 * math.log(2) + 0.5 * math.log(2 / 3), rel=1e-5)


@pytest.mark.parametrize("chunk_size", [1, 7, None])
@pytest.mark.parametrize("seed", range(3))
def test_loss_kl_and_gradients_equal_autograd_through_the_plain_form(seed, chunk_size):
    tensors = inputs(torch.float64, seed=seed)
    got = gradients(fused, *tensors, chunk_size=chunk_size, scale=-2.5)
    expected = gradients(plain, *tensors, scale=-2.5)
    close(got[0], expected[0], rtol=1e-12)
    close(got[1], torch.where(tensors[-1] == 0, 0.0, expected[1]), rtol=1e-12)
    close(got[2], expected[2], rtol=1e-12)
    close(got[3], expected[3], rtol=1e-12)


def test_student_equal_to_teacher_has_no_loss_and_no_gradient():
    hidden, head, _, _, weights = inputs()
    for value in gradients(fused, hidden, head, hidden, head, weights):
        assert value.abs().max() < 1e-6
