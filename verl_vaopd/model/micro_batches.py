"""Which rollouts of a rank run in one forward: siblings together, as far as the token budget allows."""

import torch

from verl_vaopd.model.packing import siblings
from verl_vaopd.model.row import Row


def plan_micro_batches(rows: list[Row], budget: int, at_least: int = 1) -> list[list[int]]:
    """Deal rows out to micro-batches of at most ``budget`` tokens, where a prompt counts once for its siblings.

    Siblings are parted only where prompt and responses together exceed the budget, or to reach ``at_least``. First-fit
    decreasing over groups of siblings. A row that exceeds the budget by itself gets a micro-batch of its own.

    Args:
        at_least: micro-batches to make (ranks must run equally many); at most the number of rows.
    Returns:
        Row indices of each micro-batch, none empty; every row once.
    """
    pieces: list[tuple[int, list[int]]] = []  # (tokens, siblings)
    for group in siblings(rows):
        prompt = len(rows[group[0]].input_ids) - rows[group[0]].response_length
        tokens, piece = prompt, []
        for index in group:
            if piece and tokens + rows[index].response_length > budget:
                pieces.append((tokens, piece))
                tokens, piece = prompt, []
            tokens += rows[index].response_length
            piece.append(index)
        pieces.append((tokens, piece))

    bins: list[tuple[int, list[int]]] = []
    for tokens, piece in sorted(pieces, key=lambda item: item[0], reverse=True):
        place = next((n for n, (used, _) in enumerate(bins) if used + tokens <= budget), None)
        if place is None:
            bins.append((tokens, piece))
        else:
            bins[place] = (bins[place][0] + tokens, bins[place][1] + piece)

    return halved([indices for _, indices in bins], at_least)


def halved(plan: list[list[int]], at_least: int) -> list[list[int]]:
    """``plan`` with its largest micro-batches cut in two until there are ``at_least``."""
    while len(plan) < at_least:
        largest = max(plan, key=len)
        plan.remove(largest)
        half = (len(largest) + 1) // 2
        plan += [largest[:half], largest[half:]]
    return plan


def agreed_plan(rows: list[Row], budget: int, dp_group, planned=plan_micro_batches) -> list[list[int]]:
    """``planned(rows, budget)`` with as many micro-batches on every rank of ``dp_group`` (equally many rows each)."""
    plan = planned(rows, budget)
    if torch.distributed.get_world_size(dp_group) == 1:
        return plan
    counts = [None] * torch.distributed.get_world_size(dp_group)
    torch.distributed.all_gather_object(counts, len(plan), group=dp_group)
    return plan if max(counts) == len(plan) else planned(rows, budget, max(counts))
