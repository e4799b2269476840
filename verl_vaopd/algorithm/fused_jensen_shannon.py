"""Generalised Jensen-Shannon divergence to the teacher's full distribution: the objective of GKD."""

from functools import partial

from torch import Tensor

from verl_vaopd.algorithm.checks import check_fraction
from verl_vaopd.algorithm.forward_kl import forward_kl_rows
from verl_vaopd.algorithm.fused_reverse_kl import fused_linear_kl, reverse_kl_rows
from verl_vaopd.algorithm.jensen_shannon import log_mixture


def fused_linear_jsd(
    student_hidden: Tensor,
    student_head: Tensor,
    teacher_hidden: Tensor,
    teacher_head: Tensor,
    token_weights: Tensor,
    vocab_size: int,
    beta: float,
    chunk_size: int | None = None,
    *,
    token_ids: Tensor | None = None,
) -> tuple[Tensor, ...]:
    """Sum over rows of weight * the divergence of :func:`generalised_jsd`, exact over the vocabulary, in nats.

    Source: Agarwal et al. 2024, GKD (https://arxiv.org/abs/2306.13649). Other arguments and memory are those of
    :func:`fused_linear_reverse_kl`, but for three more float32 tensors of a softmax's rows.

    Args:
        beta: from 0, :func:`fused_linear_forward_kl`, to 1, :func:`fused_linear_reverse_kl`, to the bit.
    Returns:
        loss, divergence [M] and, with ``token_ids``, log_probs [M], as there.
    Raises:
        ValueError: beta not a number from 0 to 1; else as there.
    """
    check_fraction("beta", beta)
    rows = {0: forward_kl_rows, 1: reverse_kl_rows}.get(beta, partial(jsd_rows, beta=beta))
    return fused_linear_kl(
        rows,
        *(student_hidden, student_head, teacher_hidden, teacher_head, token_weights, vocab_size, chunk_size, token_ids),
    )


def jsd_rows(log_p_S: Tensor, log_p_T: Tensor, beta: float) -> tuple[Tensor, Tensor]:
    """The divergence of each row [rows, 1], 0 < beta < 1, and its gradient by the student's logits [rows, V]; both
    arguments are overwritten."""
    log_m = log_mixture(log_p_S, log_p_T, beta)
    p_T = log_p_T.exp()
    kl_T = log_p_T.sub_(log_m).mul_(p_T).sum(dim=1, keepdim=True)  # KL(p_T || m)
    # What m itself owes to the student cancels in the sum of both terms: dD/dz_S = (1 - beta) dKL(p_S || m)/dz_S at m
    # held fixed = p_S (g - sum over V of p_S g), g = (1 - beta) log(p_S / m).
    kl_S, gradient = reverse_kl_rows(log_p_S, log_m)
    return beta * kl_T + (1 - beta) * kl_S, gradient.mul_(1 - beta)
