"""Forward KL to the teacher's full distribution: the objective of off-policy knowledge distillation."""

import torch
from torch import Tensor

from verl_vaopd.algorithm.fused_reverse_kl import fused_linear_kl


def fused_linear_forward_kl(
    student_hidden: Tensor,
    student_head: Tensor,
    teacher_hidden: Tensor,
    teacher_head: Tensor,
    token_weights: Tensor,
    vocab_size: int,
    chunk_size: int | None = None,
    *,
    token_ids: Tensor | None = None,
) -> tuple[Tensor, ...]:
    """Sum over rows of weight * KL(teacher || student), exact over the vocabulary, temperature 1, in nats.

    Source: Hinton et al. 2015 (https://arxiv.org/abs/1503.02531), Section 2, with the teacher's entropy, a constant,
    left in. Arguments and memory are those of :func:`fused_linear_reverse_kl`.

    Returns:
        loss, kl [M] and, with ``token_ids``, log_probs [M], as there.
    Raises:
        ValueError: as there.
    """
    return fused_linear_kl(
        forward_kl_rows,
        *(student_hidden, student_head, teacher_hidden, teacher_head, token_weights, vocab_size, chunk_size, token_ids),
    )


def forward_kl_rows(log_p_S: Tensor, log_p_T: Tensor) -> tuple[Tensor, Tensor]:
    """KL(teacher || student) of each row [rows, 1] and its gradient by the student's logits [rows, V]; both arguments
    are overwritten."""
    p_T = log_p_T.exp()
    kl = log_p_T.sub_(log_p_S).mul_(p_T).sum(dim=1, keepdim=True)  # sum over V: p_T (log p_T - log p_S)
    return kl, torch.sub(log_p_S.exp_(), p_T, out=p_T)  # dKL/dz_S = p_S - p_T
