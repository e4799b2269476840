"""Log-probability of given tokens from hidden states, without a tensor of rows x vocabulary."""

import torch
from torch import Tensor

from verl_vaopd.algorithm.checks import check_token_ids
from verl_vaopd.algorithm.linear_log_softmax import check_linear, log_prob_blocks, softmax_dtype


@torch.no_grad()
def token_log_probs(
    hidden: Tensor, head: Tensor, token_ids: Tensor, vocab_size: int, chunk_size: int | None = None
) -> Tensor:
    """Log-probability of one token per row at temperature 1, in nats: the log p_T(y_t | ..) of Eq. 2.

    Args:
        hidden: [M, D] last hidden states, each that predicts the token of its row.
        head: [R, D] output head, of the dtype of ``hidden``; the softmax runs over its first ``vocab_size`` rows.
        token_ids: [M] integers in [0, vocab_size).
        chunk_size: rows taken at a time; by default ``default_chunk_size(vocab_size)``.
    Returns:
        [M] float32 (float64 for float64 inputs), no gradient: the token's logit minus the log-sum-exp over V.
    Raises:
        ValueError: shapes or dtypes differ, an id outside the vocabulary, vocab_size larger than the head.
    """
    check_linear("model", hidden, head, vocab_size)
    check_token_ids(token_ids, len(hidden), vocab_size)
    result = hidden.new_empty(len(hidden), dtype=softmax_dtype(hidden))
    with torch.autocast(hidden.device.type, enabled=False):  # products in the input dtype
        for rows, log_p in log_prob_blocks(hidden, head, vocab_size, chunk_size):
            result[rows] = log_p.gather(1, token_ids[rows, None].long()).squeeze(1)
    return result
