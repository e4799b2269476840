"""Generalised Jensen-Shannon divergence from logits: the plain form, for reference and for small inputs."""

import math

import torch
from torch import Tensor

from verl_vaopd.algorithm.checks import check_fraction
from verl_vaopd.algorithm.reverse_kl import paired_log_probs


def generalised_jsd(
    student_logits: Tensor, teacher_logits: Tensor, beta: float, vocab_size: int | None = None
) -> Tensor:
    """beta KL(teacher || m) + (1 - beta) KL(student || m), m = beta p_T + (1 - beta) p_S, at temperature 1, in nats.

    Source: Agarwal et al. 2024, GKD (https://arxiv.org/abs/2306.13649). For 0 < beta < 1 it is at most
    -beta log(beta) - (1 - beta) log(1 - beta), log 2 at beta = 1/2. Towards an end it and its gradient vanish in
    proportion to beta or 1 - beta; at the end itself it is the KL that the quotient tends to, so the value jumps there.

    Args:
        student_logits: [..., R] logits of the student.
        teacher_logits: [..., R'] logits of the teacher, the leading sizes equal to the student's.
        beta: from 0, the forward KL(teacher || student), to 1, the reverse KL(student || teacher).
        vocab_size: the softmaxes run over the first ``vocab_size`` logits; by default over all, then R == R'.
    Returns:
        [...] float32 (float64 where an input is), the sum over the vocabulary, neither averaged nor weighted.
        Differentiable in both.
    Raises:
        ValueError: beta not a number from 0 to 1, shapes differ, vocab_size larger than a model's logits, or a logit
            within it not finite.
    """
    check_fraction("beta", beta)
    log_p_S, log_p_T = paired_log_probs(student_logits, teacher_logits, vocab_size)
    if beta == 0:
        return _kl(log_p_T, log_p_S)
    if beta == 1:
        return _kl(log_p_S, log_p_T)
    log_m = log_mixture(log_p_S, log_p_T, beta)
    return beta * _kl(log_p_T, log_m) + (1 - beta) * _kl(log_p_S, log_m)


def log_mixture(log_p_S: Tensor, log_p_T: Tensor, beta: float) -> Tensor:
    """log(beta p_T + (1 - beta) p_S), 0 < beta < 1, finite also where both probabilities vanish."""
    return torch.logaddexp(log_p_S + math.log1p(-beta), log_p_T + math.log(beta))


def _kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    return (log_p.exp() * (log_p - log_q)).sum(dim=-1)
