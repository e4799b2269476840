"""How far fine detail moves the teacher's whole next-token distribution: visual advantage without the sampled token.

Eq. 2 looks at the token the student happened to say. Where the student misreads, the teacher finds that token unlikely
under both views, and the advantage is near zero exactly where the two models differ most. KL(p_T(. | v) || p_T(. | v~))
is large there, needs no clamp, and comes from the same two forwards. Never a tensor of rows x vocabulary is held.
"""

import torch
from torch import Tensor

from verl_vaopd.algorithm.checks import check_shape, check_token_ids
from verl_vaopd.algorithm.linear_log_softmax import (
    check_linear,
    checked_chunk_size,
    log_softmax,
    softmax_dtype,
    softmax_rows,
)


@torch.no_grad()
def fused_linear_view_kl(
    hidden_original: Tensor,
    hidden_degraded: Tensor,
    head: Tensor,
    vocab_size: int,
    token_ids: Tensor,
    chunk_size: int | None = None,
) -> tuple[Tensor, Tensor]:
    """KL(p_T(. | v, ..) || p_T(. | v~, ..)) of each row over the vocabulary, temperature 1, in nats; forward only.

    Args:
        hidden_original, hidden_degraded: [M, D] the teacher's last hidden states under the two views, row by row.
        head: [R, D] output head, of the dtype of both; the softmaxes run over its first ``vocab_size`` rows.
        token_ids: [M] the sampled tokens, in [0, vocab_size), for Eq. 2's difference of log-probabilities.
        chunk_size: rows taken at a time; by default ``default_chunk_size(vocab_size)``.
    Returns:
        kl: [M] float32 (float64 for float64 inputs), at least 0; 0 where the views are equal.
        gain: [M] log p_T(y_t | v, ..) - log p_T(y_t | v~, ..), Eq. 2 before its clamp.
    Raises:
        ValueError: shapes or dtypes differ, an id outside the vocabulary, vocab_size larger than the head.
    """
    for view, hidden in (("the original view", hidden_original), ("the degraded view", hidden_degraded)):
        check_linear(view, hidden, head, vocab_size)
    rows = len(hidden_original)
    check_shape("hidden_degraded", hidden_degraded, hidden_original.shape, "hidden_original")
    check_token_ids(token_ids, rows, vocab_size)
    chunk_size = min(checked_chunk_size(chunk_size, vocab_size, head.dtype), max(1, rows))
    dtype = softmax_dtype(head)
    head = head[:vocab_size]
    logits, logits_degraded = (head.new_empty(chunk_size, vocab_size) for _ in range(2))
    block = min(softmax_rows(head.device), chunk_size)
    buffer, buffer_degraded = (head.new_empty(block, vocab_size, dtype=dtype) for _ in range(2))
    kl, gain = (head.new_empty(rows, dtype=dtype) for _ in range(2))
    with torch.autocast(head.device.type, enabled=False):  # products in the input dtype
        for chunk in torch.arange(rows, device=head.device).split(chunk_size):
            z = torch.mm(hidden_original[chunk], head.t(), out=logits[: len(chunk)])
            z_degraded = torch.mm(hidden_degraded[chunk], head.t(), out=logits_degraded[: len(chunk)])
            for part, a, b in zip(chunk.split(block), z.split(block), z_degraded.split(block), strict=True):
                log_p = log_softmax(a, buffer[: len(part)])
                log_ratio = (
                    log_softmax(b, buffer_degraded[: len(part)]).neg_().add_(log_p)
                )  # log p_T(.|v) - log p_T(.|v~)
                gain[part] = log_ratio.gather(1, token_ids[part, None].long()).squeeze(1)
                kl[part] = log_p.exp_().mul_(log_ratio).sum(dim=1).clamp_(min=0)  # below 0 by rounding only
    return kl, gain
