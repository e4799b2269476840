"""Micro-batches: within the budget, siblings together, equally many wherever asked."""

import pytest
import torch

from verl_vaopd.model.micro_batches import plan_micro_batches
from verl_vaopd.model.packing import siblings
from verl_vaopd.model.row import Row
from verl_vaopd.model.vision import ImageInputs


def rows_of(prompts: list[tuple[int, list[int]]]) -> list[Row]:
    """Rows of prompts given as (prompt length, response lengths), siblings apart."""
    images = [ImageInputs(torch.zeros(0), torch.zeros(0)) for _ in prompts]
    rows = [
        Row(torch.ones(length + responses[k], dtype=torch.long), responses[k], images[index])
        for k in range(max(len(responses) for _, responses in prompts))
        for index, (length, responses) in enumerate(prompts)
        if k < len(responses)
    ]
    return rows


def tokens(rows: list[Row], indices: list[int]) -> int:
    """Tokens of a forward: each prompt once."""
    batch = [rows[index] for index in indices]
    prompts = [len(batch[group[0]].input_ids) - batch[group[0]].response_length for group in siblings(batch)]
    return sum(prompts) + sum(row.response_length for row in batch)


@pytest.mark.parametrize("budget", [140, 200, 500, 10_000])
def test_every_row_once_within_the_budget(budget):
    rows = rows_of([(100, [10, 20, 30, 40]), (50, [5, 5, 5, 5]), (80, [40, 1, 40, 1]), (100, [7])])
    plan = plan_micro_batches(rows, budget)
    assert sorted(index for indices in plan for index in indices) == list(range(len(rows)))
    assert all(tokens(rows, indices) <= budget for indices in plan)


def test_siblings_are_parted_only_where_the_budget_asks_for_it():
    rows = rows_of([(100, [10, 20, 30, 40]), (50, [5, 5, 5, 5])])
    assert len(plan_micro_batches(rows, 270)) == 1  # 100 + 100 + 50 + 20: each prompt counts once
    together = plan_micro_batches(rows, 200)
    assert sorted(map(sorted, together)) == [[0, 2, 4, 6], [1, 3, 5, 7]]
    parted = plan_micro_batches(rows, 140)  # 100 + 10 + 20, 100 + 30, 100 + 40, and 70
    assert sorted(map(sorted, parted)) == [[0, 2], [1, 3, 5, 7], [4], [6]]


@pytest.mark.parametrize("at_least", [1, 2, 5, 8])
def test_as_many_micro_batches_as_another_rank_needs(at_least):
    rows = rows_of([(100, [10, 20, 30, 40]), (50, [5, 5, 5, 5])])
    plan = plan_micro_batches(rows, 10_000, at_least)
    assert len(plan) == at_least and all(plan)
    assert sorted(index for indices in plan for index in indices) == list(range(8))


def test_a_row_larger_than_the_budget_runs_alone():
    rows = rows_of([(100, [10, 20])])
    assert sorted(plan_micro_batches(rows, 50)) == [[0], [1]]
