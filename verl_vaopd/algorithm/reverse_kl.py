"""Exact full-vocabulary reverse KL from logits: the plain form, for reference and for small inputs."""

import torch
from torch import Tensor

from verl_vaopd.algorithm.checks import check_finite, check_shape, check_vocab_size


def reverse_kl(student_logits: Tensor, teacher_logits: Tensor, vocab_size: int | None = None) -> Tensor:
    """KL(student || teacher) of each row at temperature 1, in nats (the KL_t of Eq. 1 and 5).

    Args:
        student_logits: [..., R] logits of the student.
        teacher_logits: [..., R'] logits of the teacher, the leading sizes equal to the student's.
        vocab_size: the softmaxes run over the first ``vocab_size`` logits; by default over all, then R == R'.
    Returns:
        [...] float32 (float64 where an input is), the sum over the vocabulary, neither averaged nor weighted.
        Differentiable in both.
    Raises:
        ValueError: shapes differ, vocab_size larger than a model's logits, or a logit within it not finite.
    """
    log_p_student, log_p_teacher = paired_log_probs(student_logits, teacher_logits, vocab_size)
    return (log_p_student.exp() * (log_p_student - log_p_teacher)).sum(dim=-1)  # sum over V: p_S (log p_S - log p_T)


def paired_log_probs(student_logits: Tensor, teacher_logits: Tensor, vocab_size: int | None) -> list[Tensor]:
    """Log-probabilities [..., V] of the student and of the teacher, checked as :func:`reverse_kl` says."""
    expected = student_logits.shape
    if vocab_size is None:
        vocab_size = expected[-1]
    else:
        expected = (*expected[:-1], teacher_logits.shape[-1])  # the numbers of padded logits may differ
    check_shape("teacher_logits", teacher_logits, expected, "student_logits")
    check_vocab_size(vocab_size, student_logits=student_logits.shape[-1], teacher_logits=teacher_logits.shape[-1])
    log_p = []
    for name, logits in (("student_logits", student_logits), ("teacher_logits", teacher_logits)):
        logits = logits[..., :vocab_size]
        check_finite(name, logits.detach().reshape(-1, vocab_size))
        log_p.append(torch.log_softmax(logits.to(torch.promote_types(logits.dtype, torch.float32)), dim=-1))
    return log_p
