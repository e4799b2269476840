"""How rollouts are dealt out to ranks and mini-batches."""

import pytest

from verl_vaopd.trainer.order import order_rows

UIDS = ["a", "b", "c", "d"] * 3  # siblings apart, as they come from the rollout workers


def shares(order, ranks):
    each = len(order) // ranks
    return [order[rank * each : (rank + 1) * each] for rank in range(ranks)]


@pytest.mark.parametrize("ranks, mini_batches", [(1, 1), (2, 1), (2, 2), (4, 1), (1, 4)])
def test_siblings_stay_together(ranks, mini_batches):
    order = order_rows(UIDS, [1] * 12, ranks, mini_batches)
    assert sorted(order) == list(range(12))
    for rows in zip(*[iter(order)] * 3, strict=True):
        assert len({UIDS[row] for row in rows}) == 1


def test_ranks_are_evenly_loaded():
    tokens = [{"a": 9, "b": 5, "c": 8, "d": 4}[uid] for uid in UIDS]
    loads = [sum(tokens[row] for row in share) for share in shares(order_rows(UIDS, tokens, 2), 2)]
    assert loads == [39, 39]  # a with d, b with c


def test_mini_batches_hold_their_own_prompts_on_every_rank():
    first, second = set(), set()
    for share in shares(order_rows(UIDS, [1] * 12, 2, 2), 2):
        first |= {UIDS[row] for row in share[:3]}
        second |= {UIDS[row] for row in share[3:]}
    assert (first, second) == ({"a", "b"}, {"c", "d"})


def test_prompts_that_do_not_divide_by_the_ranks_are_cut_at_the_rows():
    uids = ["a"] * 4 + ["b"] * 4 + ["c"] * 4 + ["padding"] * 2
    left, right = shares(order_rows(uids, [1] * 14, 2), 2)
    assert len(left) == len(right) == 7
    assert {tuple(uids[row] for row in share[:4]) for share in (left, right)} == {("a",) * 4, ("b",) * 4}
    assert sorted(left + right) == list(range(14))


def test_mini_batches_that_part_siblings_are_refused():
    with pytest.raises(ValueError, match="part siblings"):
        order_rows(UIDS, [1] * 12, 1, 6)
    with pytest.raises(ValueError, match="5 ranks"):
        order_rows(UIDS, [1] * 12, 5)
