import pytest
import torch

from tests.algorithm import reference
from verl_vaopd.algorithm import grouped_token_weights, high_mass_mask, random_group, token_weights, visual_advantage
from verl_vaopd.algorithm.high_group import high_va_mask

ONES = torch.ones(1, 5)


def test_worked_example():
    # scores 5, 3, 1, 1 of 10: 0.5 needs one token (5 >= 5), 0.6 two (8 >= 6), 0.9 three (9 >= 9), 0.95 all four
    score = torch.tensor([[1.0, 5.0, 0.0, 3.0, 1.0]])
    for share, wanted in ((0.5, [1]), (0.6, [1, 3]), (0.8, [1, 3]), (0.9, [0, 1, 3]), (0.95, [0, 1, 3, 4])):
        assert high_mass_mask(score, ONES, share)[0].nonzero().flatten().tolist() == wanted, share


def test_ties_go_to_the_earlier_token_and_tokens_off_the_mask_count_for_nothing():
    # 2, 2, 2 on the mask: half of 6 needs two of them; the 9 off the mask is neither in the total nor in the group
    high = high_mass_mask(torch.tensor([[2.0, 9.0, 2.0, 2.0]]), torch.tensor([[1, 0, 1, 1]]), 0.5)
    assert high.tolist() == [[True, False, True, False]]


@pytest.mark.parametrize("count", [10, 100, 1000])
@pytest.mark.parametrize("tenths", range(1, 10))
def test_equal_tokens_are_a_fraction_of_the_length(count, tenths):
    high = high_mass_mask(torch.full((1, count), 0.1), torch.ones(1, count), tenths / 10)
    assert high.sum() == count * tenths // 10


def test_the_group_does_not_grow_with_the_text_around_it():
    for around in (0, 40, 4000):
        score = torch.zeros(1, 4 + around)
        score[0, -4:] = 1.4
        assert high_mass_mask(score, torch.ones_like(score))[0].nonzero().flatten().tolist() == list(
            range(around, around + 4)
        )


@pytest.mark.parametrize("seed", range(30))
def test_it_is_the_smallest_set_that_carries_the_share(seed):
    original, pixelated, mask, _ = reference.random_case(seed)
    score = visual_advantage(original, pixelated, mask).double()
    for share in (0.3, 0.9):
        for row, high in zip(score, high_mass_mask(score, mask, share), strict=True):
            total, chosen = row.sum(), row[high]
            if total == 0:
                assert not high.any()
                continue
            assert chosen.sum() >= share * total * (1 - 1e-6)
            assert chosen.sum() - chosen.min() < share * total * (1 + 1e-6)  # one less would not do
            assert chosen.min() >= row[~high].max() if (~high).any() else True


def test_weights_by_hand():
    # w = 0.8, lambda = 0.75, |V| = 2 of 5: high 0.8 * 0.75 / 2 = 0.3, low 0.8 * 0.25 / 3 = 0.0667
    score = torch.tensor([[1.0, 5.0, 0.0, 3.0, 1.0]])
    weights = grouped_token_weights(high_mass_mask(score, ONES, 0.8), ONES, torch.tensor([0.8]), 0.75)
    low = 0.2 / 3
    torch.testing.assert_close(weights, torch.tensor([[low, 0.3, low, 0.3, low]]))


def test_a_rollout_without_score_and_one_that_is_all_high_weigh_alike():
    # neither has two groups: w / T on each token
    mask = torch.tensor([[1, 1, 1], [1, 1, 0]])
    high = torch.tensor([[False] * 3, [True, True, False]])
    weights = grouped_token_weights(high, mask, torch.tensor([0.6, 0.4]))
    torch.testing.assert_close(weights, torch.tensor([[0.2, 0.2, 0.2], [0.2, 0.2, 0.0]]))


@pytest.mark.parametrize("seed", range(10))
def test_with_the_papers_group_they_are_eq_5s(seed):
    original, pixelated, mask, _ = reference.random_case(seed)
    va = visual_advantage(original, pixelated, mask)
    rollouts = torch.rand(len(va))
    assert torch.equal(grouped_token_weights(high_va_mask(va, mask), mask, rollouts), token_weights(va, mask, rollouts))


def test_random_tokens_are_as_many_and_hang_on_the_rollout_alone():
    mask = torch.ones(2, 50)
    mask[1, 20:] = 0
    high = torch.zeros(2, 50, dtype=torch.bool)
    high[0, :7], high[1, :3] = True, True
    ids = [b"one", b"two"]
    drawn = random_group(high, mask, ids, seed=3)
    assert drawn.sum(dim=1).tolist() == [7, 3] and not drawn[1, 20:].any() and not torch.equal(drawn, high)
    assert torch.equal(random_group(high.flip(0), mask.flip(0), ids[::-1], seed=3), drawn.flip(0))
    assert not torch.equal(random_group(high, mask, ids, seed=4), drawn)


@pytest.mark.parametrize(
    "score, mask, share, says",
    [
        ([[1.0, -0.1]], [[1, 1]], 0.9, "score is negative in row 0"),
        ([[1.0, float("nan")]], [[1, 1]], 0.9, "score is not finite"),
        ([[1.0]], [[1, 1]], 0.9, "score has shape"),
        ([[1.0, 1.0]], [[0, 0]], 0.9, "row 0 has no token"),
        ([[1.0, 1.0]], [[1, 1]], 1.0, "share must lie strictly between 0 and 1"),
    ],
)
def test_bad_input_is_named(score, mask, share, says):
    with pytest.raises(ValueError, match=says):
        high_mass_mask(torch.tensor(score), torch.tensor(mask), share)
