import math

import pytest
import torch

from tests.tracing import LargestTensor
from verl_vaopd.algorithm import fused_linear_view_kl, token_log_probs

M, D, R, V = 11, 6, 23, 20


@pytest.fixture
def rows():
    generator = torch.Generator().manual_seed(0)
    views = [2 * torch.randn(M, D, generator=generator) for _ in range(2)]
    return *views, torch.randn(R, D, generator=generator), torch.randint(0, V, (M,), generator=generator)


def reference(original, degraded, head, ids):
    """Full softmaxes in float64."""
    log_p, log_q = ((h.double() @ head[:V].double().t()).log_softmax(-1) for h in (original, degraded))
    log_ratio = log_p - log_q
    return (log_p.exp() * log_ratio).sum(-1), log_ratio.gather(1, ids[:, None]).squeeze(1)


def test_worked_example():
    # logits 0 and ln 3 give 1/4, 3/4; hidden 0 gives 1/2, 1/2; the third row of the head is padding
    head = torch.tensor([[0.0], [math.log(3)], [50.0]])
    kl, gain = fused_linear_view_kl(torch.ones(1, 1), torch.zeros(1, 1), head, 2, torch.tensor([1]))
    # 1/4 ln(1/2) + 3/4 ln(3/2) = 0.1308; ln(3/4) - ln(1/2) = 0.4055
    assert kl.item() == pytest.approx(0.25 * math.log(0.5) + 0.75 * math.log(1.5), rel=1e-5)
    assert gain.item() == pytest.approx(math.log(1.5), rel=1e-5)


@pytest.mark.parametrize("chunk_size", [1, 3, M, 100, None])
def test_equals_float64_softmaxes_at_any_chunk_size(rows, chunk_size):
    *hidden_and_head, ids = rows
    got = fused_linear_view_kl(*hidden_and_head, V, ids, chunk_size)
    for value, expected in zip(got, reference(*hidden_and_head, ids), strict=True):
        assert value.dtype == torch.float32
        torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-6)
    doubles = fused_linear_view_kl(*(x.double() for x in hidden_and_head), V, ids, chunk_size)
    torch.testing.assert_close(doubles, reference(*hidden_and_head, ids), rtol=1e-12, atol=1e-14)


def test_is_never_negative_and_zero_for_equal_views(rows):
    original, _, head, ids = rows
    assert fused_linear_view_kl(original, original.clone(), head, V, ids)[0].tolist() == [0.0] * M
    near = original * (1 + 1e-7)
    assert (fused_linear_view_kl(original, near, head, V, ids)[0] >= 0).all()


def test_padded_head_rows_take_no_part(rows):
    original, degraded, head, ids = rows
    got = fused_linear_view_kl(original, degraded, head, V, ids)
    head[V:] = 100.0
    assert all(map(torch.equal, got, fused_linear_view_kl(original, degraded, head, V, ids)))


def test_gain_is_the_difference_of_the_log_probabilities(rows):
    original, degraded, head, ids = rows
    expected = token_log_probs(original, head, ids, V) - token_log_probs(degraded, head, ids, V)
    torch.testing.assert_close(
        fused_linear_view_kl(original, degraded, head, V, ids)[1], expected, rtol=1e-5, atol=1e-6
    )


def test_sees_a_misread_that_the_sampled_token_hides():
    # The teacher reads "4" (logit 8 with the image, 0 without); the student said "7", unlikely under both views.
    head = torch.eye(10)
    original, degraded = torch.zeros(1, 10), torch.zeros(1, 10)
    original[0, 4] = 8.0
    kl, gain = fused_linear_view_kl(original, degraded, head, 10, torch.tensor([7]))
    assert gain.item() < 0  # Eq. 2 clamps this to no advantage
    assert kl.item() > 2.0


def test_holds_one_chunk_of_logits_only():
    hidden, head = torch.randn(2, 400, 8), torch.randn(5000, 8)
    with LargestTensor() as largest:
        fused_linear_view_kl(*hidden, head, 5000, torch.zeros(400, dtype=torch.long), chunk_size=20)
    assert largest.numel <= 20 * 5000


def test_no_rows_and_bfloat16(rows):
    original, degraded, head, ids = rows
    assert [x.shape for x in fused_linear_view_kl(original[:0], degraded[:0], head, V, ids[:0])] == [(0,), (0,)]
    halves = fused_linear_view_kl(original.bfloat16(), degraded.bfloat16(), head.bfloat16(), V, ids)
    torch.testing.assert_close(halves[0], fused_linear_view_kl(original, degraded, head, V, ids)[0], rtol=0.1, atol=0.1)


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(hidden_degraded=torch.zeros(M, D + 1)), "the degraded view: hidden states must be"),
        (dict(hidden_degraded=torch.zeros(M - 1, D)), "hidden_degraded has shape"),
        (dict(hidden_original=torch.zeros(M, D).bfloat16()), "the original view: hidden states are torch.bfloat16"),
        (dict(token_ids=torch.full((M,), V)), "token_ids"),
        (dict(vocab_size=R + 1), "is larger than the head"),
        (dict(chunk_size=0), "chunk_size must be at least 1"),
    ],
)
def test_refuses_what_does_not_fit(rows, change, message):
    names = ("hidden_original", "hidden_degraded", "head", "token_ids")
    with pytest.raises(ValueError, match=message):
        fused_linear_view_kl(**{**dict(zip(names, rows, strict=True)), "vocab_size": V, **change})
