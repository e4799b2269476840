import math

import pytest
import torch

from tests.tracing import LargestTensor
from verl_vaopd.algorithm import token_entropy

from . import reference

M, D, R, V = 11, 6, 23, 20


@pytest.fixture
def rows():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(M, D, generator=generator), torch.randn(R, D, generator=generator)


def test_worked_example():
    # Logits 0 and ln 3 (the third row is padding): p = (1/4, 3/4), 1/4 ln 4 + 3/4 ln(4/3) = 0.562335.
    # Hidden state 0: p = (1/2, 1/2), ln 2. Hidden state 1000: the second token is sure, 0.
    head = torch.tensor([[0.0], [math.log(3)], [50.0]])
    entropy = token_entropy(torch.tensor([[1.0], [0.0], [1000.0]]), head, vocab_size=2)
    torch.testing.assert_close(entropy, torch.tensor([0.562335, math.log(2), 0.0]), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("chunk_size", [1, 3, 7, M, 100, None])
def test_equals_the_reference_at_any_chunk_size(rows, chunk_size):
    hidden, head = (x.double() for x in rows)
    logits = (hidden @ head[:V].t()).tolist()
    expected = torch.tensor([reference.entropy(row) for row in logits], dtype=torch.float64)
    torch.testing.assert_close(token_entropy(hidden, head, V, chunk_size), expected, rtol=1e-12, atol=1e-14)
    in_float32 = token_entropy(*rows, V, chunk_size)
    assert in_float32.dtype == torch.float32
    torch.testing.assert_close(in_float32, expected.float(), rtol=1e-5, atol=1e-6)


def test_lies_between_zero_and_that_of_alike_tokens(rows):
    hidden, head = rows
    for scale in (0.0, 1.0, 1e4):
        entropy = token_entropy(scale * hidden, head, V)
        assert (entropy >= 0).all() and (entropy <= math.log(V) + 1e-6).all()
    torch.testing.assert_close(token_entropy(0 * hidden, head, V), torch.full((M,), math.log(V)))


def test_padded_head_rows_take_no_part(rows):
    hidden, head = rows
    entropy = token_entropy(hidden, head, V)
    head[V:] = float("nan")
    assert torch.equal(token_entropy(hidden, head, V), entropy)


def test_has_no_gradient_and_is_float32(rows):
    hidden, head = (x.bfloat16().requires_grad_() for x in rows)
    entropy = token_entropy(hidden, head, V)
    assert entropy.dtype == torch.float32 and not entropy.requires_grad
    torch.testing.assert_close(entropy, token_entropy(*rows, V), rtol=0.05, atol=0.05)


def test_autocast_does_not_lower_the_precision(rows):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        entropy = token_entropy(*rows, V)
    assert torch.equal(entropy, token_entropy(*rows, V))


def test_no_rows(rows):
    hidden, head = rows
    assert token_entropy(hidden[:0], head, V).shape == (0,)


def test_holds_one_chunk_of_logits_only():
    hidden, head = torch.randn(400, 8), torch.randn(5000, 8)
    with LargestTensor() as largest:
        token_entropy(hidden, head, 5000, chunk_size=20)
    assert largest.numel == 20 * 5000


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(hidden=torch.zeros(M, D + 1)), "hidden states must be"),
        (dict(hidden=torch.zeros(M, D).bfloat16()), "hidden states are torch.bfloat16 and the head is torch.float32"),
        (dict(vocab_size=R + 1), f"vocab_size {R + 1} is larger than the head of the model, which has {R}"),
        (dict(vocab_size=0), "vocab_size must be at least 1"),
        (dict(chunk_size=0), "chunk_size must be at least 1"),
    ],
)
def test_refuses_what_does_not_fit(rows, change, message):
    hidden, head = rows
    with pytest.raises(ValueError, match=message):
        token_entropy(**{"hidden": hidden, "head": head, "vocab_size": V, **change})
