"""The fused divergence of GKD: by hand, against autograd through the plain form, and at its ends."""

import math
from functools import partial

import pytest
import torch

from tests.algorithm.test_fused_reverse_kl import CountGemms, M, V, close, gradients, inputs, wide
from tests.tracing import LargestTensor
from verl_vaopd.algorithm import (
    fused_linear_forward_kl,
    fused_linear_jsd,
    fused_linear_reverse_kl,
    generalised_jsd,
    token_log_probs,
)

BETAS = [0.1, 0.5, 0.75]


def fused(*tensors, beta, **options):
    return fused_linear_jsd(*tensors, V, beta, **options)


def plain(hidden, head, teacher_hidden, teacher_head, weights, beta):
    jsd = generalised_jsd(hidden @ head.t(), teacher_hidden @ teacher_head.t(), beta, V)
    return (weights * jsd).sum(), jsd


def skipped(weights, jsd):
    """Rows of weight 0 are reported as 0."""
    return torch.where(weights == 0, 0.0, jsd)


def test_worked_example():
    # Teacher (3/4, 1/4), student (1/4, 3/4), beta 1/2: m = (1/2, 1/2), D = 3/4 ln(3/2) + 1/4 ln(1/2) = 0.130812.
    # g = 1/2 ln(p_S / m) = (1/2 ln(1/2), 1/2 ln(3/2)), differing by 1/2 ln 3, so p_S (g - sum p_S g) is
    # 1/4 * 3/4 * 1/2 ln 3 = 3/32 ln 3 = 0.102996, down for the first token and up for the second.
    # Hidden states are 1, so that is the gradient of the head as well; the third rows are padding. The hidden state's
    # is the sum of z times it: 0 * -0.102996 + ln 3 * 0.102996.
    hidden = torch.ones(1, 1, requires_grad=True)
    student_head = torch.tensor([[0.0], [math.log(3)], [9.0]], requires_grad=True)
    teacher_head = torch.tensor([[math.log(3)], [0.0], [9.0]])
    loss, jsd = fused_linear_jsd(hidden, student_head, torch.ones(1, 1), teacher_head, torch.tensor([2.0]), 2, 0.5)
    loss.backward()
    assert jsd.item() == pytest.approx(0.130812, abs=1e-6) and loss.item() == pytest.approx(2 * 0.130812, abs=2e-6)
    up = 3 / 32 * math.log(3)
    torch.testing.assert_close(student_head.grad, 2 * torch.tensor([[-up], [up], [0.0]]))
    torch.testing.assert_close(hidden.grad, torch.tensor([[2 * up * math.log(3)]]))


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("chunk_size", [1, 7, 100, None])
@pytest.mark.parametrize("seed", range(3))
def test_loss_divergence_and_gradients_equal_autograd_through_the_plain_form(seed, chunk_size, beta):
    tensors = inputs(torch.float64, seed=seed)
    expected = gradients(plain, *tensors, scale=-2.5, beta=beta)
    got = gradients(fused, *tensors, scale=-2.5, beta=beta, chunk_size=chunk_size)
    exact = (expected[0], skipped(tensors[-1], expected[1]), *expected[2:])
    for actual, value in zip(got, exact, strict=True):
        close(actual, value, rtol=1e-12)
    in_float32 = gradients(fused, *(x.float() for x in tensors), scale=-2.5, beta=beta, chunk_size=chunk_size)
    for actual, value in zip(in_float32, exact, strict=True):
        close(actual, value.float(), rtol=2e-5)


def test_gradcheck():
    hidden, head, *constants = inputs(torch.float64, rows=4)
    hidden.requires_grad_(), head.requires_grad_()
    assert torch.autograd.gradcheck(lambda h, w: fused(h, w, *constants, beta=0.3, chunk_size=2)[0], (hidden, head))


@pytest.mark.parametrize("token_ids", [None, torch.arange(M)])
@pytest.mark.parametrize(
    "beta, function",
    [
        (0, fused_linear_forward_kl),
        (0.0, fused_linear_forward_kl),
        (1, fused_linear_reverse_kl),
        (1.0, fused_linear_reverse_kl),
    ],
)
def test_the_ends_are_the_kl_functions_to_the_bit(beta, function, token_ids):
    options = {"chunk_size": 3, "token_ids": token_ids}

    def theirs(*tensors, **options):
        return function(*tensors, V, **options)

    ours = partial(fused, beta=beta)
    for one, other in zip(gradients(ours, *inputs(), **options), gradients(theirs, *inputs(), **options), strict=True):
        assert torch.equal(one, other)
    assert all(map(torch.equal, ours(*inputs(), **options), theirs(*inputs(), **options)))


@pytest.mark.parametrize("chunk_size", [1, 3, 7])
def test_chunk_size_changes_nothing(chunk_size):
    tensors = inputs(torch.float64)
    for one, other in zip(
        gradients(fused, *tensors, beta=0.3, chunk_size=chunk_size),
        gradients(fused, *tensors, beta=0.3, chunk_size=M),
        strict=True,
    ):
        close(one, other, rtol=1e-13)


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("dtype, bound", [(torch.float64, 1e-14), (torch.float32, 1e-6), (torch.bfloat16, 1e-6)])
def test_student_equal_to_teacher_has_no_loss_and_no_gradient(dtype, bound, beta):
    hidden, head, _, _, weights = inputs(dtype)
    for value in gradients(fused, hidden, head, hidden, head, weights, beta=beta):
        assert value.abs().max() < bound


def test_padded_head_rows_change_nothing_and_get_no_gradient():
    hidden, head, teacher_hidden, teacher_head, weights = inputs()
    bare = gradients(fused, hidden, head[:V], teacher_hidden, teacher_head[:V], weights, beta=0.3)
    head[V:], teacher_head[V:] = float("nan"), float("inf")
    *got, grad_head = gradients(fused, hidden, head, teacher_hidden, teacher_head, weights, beta=0.3)
    assert all(map(torch.equal, got, bare[:3])) and torch.equal(grad_head[:V], bare[3])
    assert grad_head.shape == head.shape and not grad_head[V:].any()


def test_rows_of_weight_zero_are_skipped_even_if_they_hold_nan():
    hidden, head, teacher_hidden, teacher_head, weights = inputs()
    clean = gradients(fused, hidden, head, teacher_hidden, teacher_head, weights, beta=0.3)
    hidden[1], teacher_hidden[M - 1] = float("nan"), float("nan")
    soiled = gradients(fused, hidden, head, teacher_hidden, teacher_head, weights, beta=0.3)
    assert all(map(torch.equal, soiled, clean))
    assert clean[1][1] == 0 and clean[1][M - 1] == 0 and not clean[2][1].any() and clean[2][0].any()


def test_with_token_ids_every_row_is_there():
    tensors = inputs()
    ids = torch.randint(0, V, (M,), generator=torch.Generator().manual_seed(2))
    hidden, head = tensors[0].requires_grad_(), tensors[1].requires_grad_()
    loss, jsd, log_probs = fused(*tensors, beta=0.3, chunk_size=2, token_ids=ids)
    loss.backward()
    expected = gradients(plain, *(tensor.detach() for tensor in tensors), beta=0.3)
    for actual, value in zip((loss.detach(), jsd, hidden.grad, head.grad), expected, strict=True):
        close(actual, value, rtol=2e-5)
    close(log_probs, token_log_probs(hidden, head, ids, V))
    assert not jsd.requires_grad and not log_probs.requires_grad and not hidden.grad[1].any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_never_holds_rows_times_vocabulary_and_computes_nothing_twice(dtype):
    with LargestTensor() as largest, CountGemms() as counter:
        fused_linear_jsd(*wide(dtype), 5000, 0.5, chunk_size=64)[0].backward()
    assert largest.numel == 64 * 5000  # a chunk, not 512 * 5000
    if dtype == torch.float32:  # in bfloat16 the head's gradient is formed in blocks
        assert counter.count == 4 * 8  # logits of both models, gradients of hidden states and head; 512 / 64 chunks


def test_bfloat16_is_near_float32():
    tensors = [tensor.detach() for tensor in wide(torch.bfloat16)]

    def at_half(*tensors, **options):
        return fused_linear_jsd(*tensors, 5000, 0.5, **options)

    expected = gradients(at_half, *(tensor.float() for tensor in tensors))
    got = gradients(at_half, *tensors, chunk_size=64)
    assert [x.dtype for x in got] == 2 * [torch.float32] + 2 * [torch.bfloat16]
    for actual, exact in zip(got, expected, strict=True):
        assert (actual.float() - exact).norm() < 0.02 * exact.norm()  # bfloat16 has 8 bits: 0.4% a rounding


@pytest.mark.parametrize("beta", [-0.1, 1.1, float("nan"), True, False])
def test_refuses_a_beta_that_is_no_fraction(beta):
    with pytest.raises(ValueError, match=f"beta must be a number from 0 to 1, got {beta}"):
        fused(*inputs(), beta=beta)


def test_refuses_what_the_kl_functions_refuse():
    *tensors, weights = inputs()
    with pytest.raises(ValueError, match="token_weights has shape"):
        fused(*tensors, weights[1:], beta=0.5)
    with pytest.raises(ValueError, match="chunk_size must be at least 1"):
        fused(*tensors, weights, beta=0.5, chunk_size=0)
