"""Log-probabilities with gradient, chunk by chunk, against autograd through the whole logits."""

import math

import pytest
import torch

from tests.tracing import LargestTensor
from verl_vaopd.algorithm import policy_log_probs, token_log_probs

M, D, R, V = 13, 6, 23, 20


def rows(dtype=torch.float64, count=M, head_rows=R, seed=0):
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(count, D, generator=generator, dtype=torch.float64).to(dtype)
    head = torch.randn(head_rows, D, generator=generator, dtype=torch.float64).to(dtype)
    return hidden.requires_grad_(), head.requires_grad_(), torch.randint(0, V, (count,), generator=generator)


def test_worked_example():
    # Logits 0 and ln 9: at temperature 2 they are 0 and ln 3, so p = (1/4, 3/4); at temperature 1 p = (1/10, 9/10).
    head = torch.tensor([[0.0], [math.log(9)], [50.0]], requires_grad=True)
    log_p, at_one = policy_log_probs(torch.ones(1, 1), head, torch.tensor([1]), vocab_size=2, temperature=2.0)
    assert log_p.item() == pytest.approx(math.log(0.75), rel=1e-6)
    assert at_one.item() == pytest.approx(math.log(0.9), rel=1e-5) and not at_one.requires_grad
    log_p.sum().backward()
    # d log p / d z_v = (1[v = token] - p_v) / temperature = (-1/4, 1/4) / 2
    torch.testing.assert_close(head.grad, torch.tensor([[-0.125], [0.125], [0.0]]))


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("chunk_size", [1, 3, M, None])
def test_values_and_gradients_equal_autograd_through_the_logits(temperature, chunk_size):
    hidden, head, ids = rows()
    weights = torch.linspace(-1, 2, M, dtype=torch.float64)  # negative, zero and positive gradients
    log_p, at_one = policy_log_probs(hidden, head, ids, V, temperature, chunk_size)
    got = torch.autograd.grad((weights * log_p.exp()).sum(), (hidden, head))
    logits = hidden @ head[:V].t()
    expected = (logits / temperature).log_softmax(-1).gather(1, ids[:, None]).squeeze(1)
    torch.testing.assert_close(log_p, expected, rtol=1e-12, atol=1e-12)
    for one, other in zip(got, torch.autograd.grad((weights * expected.exp()).sum(), (hidden, head)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(at_one, token_log_probs(hidden, head, ids, V), rtol=1e-12, atol=1e-12)


def test_bf16_gradients_are_close_to_exact_ones():
    results = []
    for dtype in (torch.float64, torch.bfloat16):
        hidden, head, ids = rows(dtype, count=200)
        log_p, _ = policy_log_probs(hidden, head, ids, V, chunk_size=32)
        assert log_p.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        results.append(torch.autograd.grad(log_p.sum(), (hidden, head)))
    for exact, rounded in zip(*results, strict=True):
        assert (rounded - exact).norm() < 0.02 * exact.norm()


def test_no_tensor_of_rows_by_vocabulary_in_forward_or_backward():
    hidden, head, ids = rows(torch.float32, count=512, head_rows=2000)
    with LargestTensor() as largest:
        log_p, _ = policy_log_probs(hidden, head, ids, 2000, chunk_size=32)
        log_p.sum().backward()
    assert 0 < largest.numel <= 64 * 2000


def test_no_rows_leave_a_graph():
    hidden, head, ids = rows()
    log_p, _ = policy_log_probs(hidden[:0], head, ids[:0], V)
    log_p.sum().backward()
    assert log_p.shape == (0,) and not head.grad.any()


def test_refuses_a_temperature_that_is_not_positive():
    with pytest.raises(ValueError, match="temperature must be a finite number above 0, got 0"):
        policy_log_probs(*rows(), V, temperature=0.0)
