import math

import pytest
import torch

from verl_vaopd.algorithm import default_chunk_size, token_log_probs

M, D, R, V = 11, 6, 23, 20


@pytest.fixture
def rows():
    generator = torch.Generator().manual_seed(0)
    hidden, head = torch.randn(M, D, generator=generator), torch.randn(R, D, generator=generator)
    return hidden, head, torch.randint(0, V, (M,), generator=generator)


def test_worked_example():
    # logits 0 and ln 3 (the third row is padding): log p = ln 1/4 and ln 3/4
    head = torch.tensor([[0.0], [math.log(3)], [50.0]])
    log_p = token_log_probs(torch.ones(2, 1), head, torch.tensor([0, 1]), vocab_size=2)
    torch.testing.assert_close(log_p, torch.tensor([math.log(0.25), math.log(0.75)]))


@pytest.mark.parametrize("chunk_size", [1, 3, 7, M, 100, None])
def test_equals_log_softmax_of_the_logits(rows, chunk_size):
    hidden, head, ids = rows
    expected = torch.log_softmax(hidden @ head[:V].t(), dim=-1).gather(1, ids[:, None]).squeeze(1)
    torch.testing.assert_close(token_log_probs(hidden, head, ids, V, chunk_size), expected, rtol=1e-5, atol=1e-6)


def test_has_no_gradient_and_is_float32(rows):
    hidden, head, ids = rows
    log_p = token_log_probs(hidden.bfloat16().requires_grad_(), head.bfloat16().requires_grad_(), ids, V)
    assert log_p.dtype == torch.float32 and not log_p.requires_grad
    torch.testing.assert_close(log_p, token_log_probs(hidden, head, ids, V), rtol=0.05, atol=0.1)


def test_autocast_does_not_lower_the_precision(rows):
    hidden, head, ids = rows
    with torch.autocast("cpu", dtype=torch.bfloat16):
        log_p = token_log_probs(hidden, head, ids, V)
    assert torch.equal(log_p, token_log_probs(hidden, head, ids, V))


def test_no_rows(rows):
    hidden, head, ids = rows
    assert token_log_probs(hidden[:0], head, ids[:0], V).shape == (0,)


@pytest.mark.parametrize("value", [-1, V, R - 1])
def test_refuses_an_id_outside_the_vocabulary(rows, value):
    hidden, head, ids = rows
    ids[4] = value
    with pytest.raises(ValueError, match=rf"token_ids\[4\] = {value} is outside \[0, {V}\)"):
        token_log_probs(hidden, head, ids, V)


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(hidden=torch.zeros(M, D + 1)), "hidden states must be"),
        (dict(hidden=torch.zeros(M)), "hidden states must be"),
        (dict(hidden=torch.zeros(M, D).bfloat16()), "hidden states are torch.bfloat16 and the head is torch.float32"),
        (dict(token_ids=torch.zeros(M + 1, dtype=torch.long)), "token_ids has shape"),
        (dict(token_ids=torch.zeros(M)), "token_ids must be integers"),
        (dict(vocab_size=R + 1), f"vocab_size {R + 1} is larger than the head of the model, which has {R}"),
        (dict(vocab_size=0), "vocab_size must be at least 1"),
        (dict(chunk_size=0), "chunk_size must be at least 1"),
    ],
)
def test_refuses_what_does_not_fit(rows, change, message):
    hidden, head, ids = rows
    with pytest.raises(ValueError, match=message):
        token_log_probs(**{"hidden": hidden, "head": head, "token_ids": ids, "vocab_size": V, **change})


@pytest.mark.parametrize(
    "vocab_size, budget_bytes, dtype, rows",
    [
        (151_669, 2**29, torch.float32, 384),  # 2^29 / (2 * 4 * 151,669) = 442.5, and 6 * 64 = 384
        (151_669, 2**29, torch.bfloat16, 832),  # 2^29 / (2 * 2 * 151,669) = 884.9, and 13 * 64 = 832
        (1000, 120_000, torch.float32, 15),  # 120,000 / 8,000
        (1000, 100, torch.float32, 1),
    ],
)
def test_default_chunk_size(vocab_size, budget_bytes, dtype, rows):
    assert default_chunk_size(vocab_size, budget_bytes, dtype) == rows


@pytest.mark.parametrize("sizes", [(0, 10), (10, 0)])
def test_default_chunk_size_refuses_nothing_to_divide(sizes):
    with pytest.raises(ValueError, match="must be at least 1"):
        default_chunk_size(*sizes)
