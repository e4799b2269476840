import pytest
import torch

from tests.algorithm import reference
from verl_vaopd.algorithm import high_va_mask, masked_tokens, visual_advantage


def ids_of(count):
    return [f"rollout {row}".encode() for row in range(count)]


def test_worked_example():
    # 5 tokens, 30%: ceil(1.5) = 2 masked; the second row has 3 tokens: ceil(0.9) = 1
    va = torch.tensor([[3.0, 0.5, 4.0, 0.1, 2.0], [7.0, 9.0, 8.0, 99.0, -99.0]])
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    highest = masked_tokens("highest_va", va, mask, ids_of(2), 0.3)
    assert highest.int().tolist() == [[1, 0, 1, 0, 0], [0, 1, 0, 0, 0]]
    lowest = masked_tokens("lowest_va", va, mask, ids_of(2), 0.3)
    assert lowest.int().tolist() == [[0, 1, 0, 1, 0], [1, 0, 0, 0, 0]]
    assert masked_tokens("random", va, mask, ids_of(2), 0.3).sum(dim=1).tolist() == [2, 1]
    assert not masked_tokens("none", va, mask, ids_of(2), 0.3).any()


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("fraction", [0.1, 0.4])
def test_exactly_the_tokens_asked_for(seed, fraction):
    original, pixelated, mask, _ = reference.random_case(seed)
    va = visual_advantage(original, pixelated, mask)
    counts = high_va_mask(va, mask, fraction).sum(dim=1)  # ceil(fraction * T)
    for choice in ("random", "lowest_va", "highest_va"):
        masked = masked_tokens(choice, va, mask, ids_of(len(va)), fraction, seed)
        assert torch.equal(masked.sum(dim=1), counts) and not (masked & ~mask.bool()).any()
        for row, chosen, on in zip(va, masked, mask.bool(), strict=True):
            left = row[on & ~chosen]
            if choice == "highest_va" and len(left):
                assert row[chosen].min() >= left.max()
            if choice == "lowest_va" and len(left):
                assert row[chosen].max() <= left.min()


@pytest.mark.parametrize("choice", ["random", "lowest_va", "highest_va"])
def test_does_not_change_with_batch_order_or_padding(choice):
    mask = torch.ones(6, 30)
    va = torch.zeros(6, 30)  # all tied: wholly the random order's
    ids = ids_of(6)
    whole = masked_tokens(choice, va, mask, ids, seed=3)
    order = [4, 0, 5, 2]
    padded = [torch.cat([values[order], torch.zeros(4, 5)], dim=1) for values in (va, mask)]
    part = masked_tokens(choice, *padded, [ids[row] for row in order], seed=3)
    assert torch.equal(part[:, :30], whole[order])
    assert not torch.equal(whole, masked_tokens(choice, va, mask, ids, seed=4))
    assert len({tuple(row.tolist()) for row in whole}) > 1  # rollouts draw apart


def test_ties_are_not_masked_from_the_left():
    va, mask = torch.zeros(400, 20), torch.ones(400, 20)
    share = masked_tokens("lowest_va", va, mask, ids_of(400)).float().mean(dim=0)
    assert share.min() > 0.05 and share.max() < 0.15  # 0.1 each; 5 standard deviations are 0.075


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(choice="top"), "choice must be one of"),
        (dict(fraction=0.0), "high_fraction must lie strictly between 0 and 1"),
        (dict(rollout_ids=[b"a"]), "holds 1 ids for 2 rollouts"),
        (dict(va=torch.ones(2, 4)), "va has shape"),
        (dict(response_mask=torch.zeros(2, 3)), "has no token"),
    ],
)
def test_refuses_what_does_not_fit(change, message):
    given = dict(choice="random", va=torch.ones(2, 3), response_mask=torch.ones(2, 3), rollout_ids=ids_of(2))
    with pytest.raises(ValueError, match=message):
        masked_tokens(**{**given, **change})
