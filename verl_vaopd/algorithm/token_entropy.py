"""Entropy of the next-token distribution from hidden states, without a tensor of rows x vocabulary."""

import torch
from torch import Tensor

from verl_vaopd.algorithm.linear_log_softmax import check_linear, log_prob_blocks, softmax_dtype


@torch.no_grad()
def token_entropy(hidden: Tensor, head: Tensor, vocab_size: int, chunk_size: int | None = None) -> Tensor:
    """-sum over V of p log p of each row at temperature 1, in nats: how unsure a model is of its next token.

    Args:
        hidden: [M, D] last hidden states.
        head: [R, D] output head, of the dtype of ``hidden``; the softmax runs over its first ``vocab_size`` rows.
        chunk_size: rows taken at a time; by default ``default_chunk_size(vocab_size)``.
    Returns:
        [M] float32 (float64 for float64 inputs), no gradient: from 0, one token is sure, to log(vocab_size), all are
        alike.
    Raises:
        ValueError: shapes or dtypes differ, vocab_size larger than the head.
    """
    check_linear("model", hidden, head, vocab_size)
    result = hidden.new_empty(len(hidden), dtype=softmax_dtype(hidden))
    with torch.autocast(hidden.device.type, enabled=False):  # products in the input dtype
        for rows, log_p in log_prob_blocks(hidden, head, vocab_size, chunk_size):
            result[rows] = -log_p.exp().mul_(log_p).sum(dim=1)
    return result
