"""In which order rollouts are dealt out: siblings on one rank, ranks evenly loaded, mini-batches of whole prompts."""

from collections.abc import Hashable, Sequence

from verl.utils.seqlen_balancing import get_seqlen_balanced_partitions


def order_rows(prompt_ids: Sequence[Hashable], tokens: Sequence[int], ranks: int, mini_batches: int = 1) -> list[int]:
    """Arrange rows so that equal consecutive shares, one a rank, hold siblings together and similar numbers of tokens.

    Mini-batches take the prompts in their order. Within each, every rank gets the same number of whole prompts; the
    rest, if prompts do not divide by ranks, is cut at the rows.

    Args:
        prompt_ids: per row, equal for siblings; tokens: per row.
        mini_batches: optimiser steps; a rank's share is laid out mini-batch by mini-batch.
    Returns:
        A permutation of the rows, rank after rank.
    Raises:
        ValueError: rows do not divide by ranks and mini-batches, or a mini-batch would part siblings.
    """
    if len(prompt_ids) % (ranks * mini_batches):
        raise ValueError(f"{len(prompt_ids)} rollouts do not divide by {ranks} ranks x {mini_batches} mini-batches")
    groups: dict[Hashable, list[int]] = {}
    for row, prompt in enumerate(prompt_ids):
        groups.setdefault(prompt, []).append(row)
    shares: list[list[int]] = [[] for _ in range(ranks)]
    waiting = list(groups.values())
    for _ in range(mini_batches):
        batch, wanted = [], len(prompt_ids) // mini_batches
        while wanted > 0:
            batch.append(waiting.pop(0))
            wanted -= len(batch[-1])
        if wanted < 0:
            raise ValueError(f"a mini-batch of {len(prompt_ids) // mini_batches} rollouts would part siblings")
        for share, rows in zip(shares, _deal(batch, tokens, ranks), strict=True):
            share += rows
    return [row for share in shares for row in share]


def _deal(groups: list[list[int]], tokens: Sequence[int], ranks: int) -> list[list[int]]:
    """Rows of each rank, equally many, from one mini-batch's groups of siblings."""
    size = max(map(len, groups))
    full = [group for group in groups if len(group) == size]
    whole = full[: len(full) // ranks * ranks]
    rest = [row for group in [*full[len(whole) :], *(g for g in groups if len(g) < size)] for row in group]
    shares: list[list[int]] = [[] for _ in range(ranks)]
    if whole:
        load = [sum(tokens[row] for row in group) for group in whole]
        parts = get_seqlen_balanced_partitions(load, k_partitions=ranks, equal_size=True)
        shares = [[row for index in part for row in whole[index]] for part in parts]
    each = len(rest) // ranks
    return [share + rest[rank * each : (rank + 1) * each] for rank, share in enumerate(shares)]
