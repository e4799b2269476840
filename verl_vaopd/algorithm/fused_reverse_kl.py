"""Weighted reverse KL from hidden states to loss and gradient, chunk by chunk: never a tensor of rows x vocabulary.

As the weights are known beforehand, the gradient of the weighted sum is formed in the forward, while a chunk's
probabilities are at hand; the backward only scales it. Nothing is computed twice: three GEMMs for the student (logits,
gradient of the hidden states, gradient of the head), one for the teacher (logits).
"""

import torch
from torch import Tensor

from verl_vaopd.algorithm.checks import check_finite, check_shape, check_token_ids
from verl_vaopd.algorithm.linear_log_softmax import (
    check_linear,
    checked_chunk_size,
    log_softmax,
    softmax_dtype,
    softmax_rows,
)


def fused_linear_reverse_kl(
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
    """Sum over rows of weight * KL(student || teacher), exact over the vocabulary, temperature 1, in nats (Eq. 6).

    GEMMs run in the dtype of the inputs, softmaxes and sums in float32 (float64 where an input is). Gradients go to
    ``student_hidden`` and ``student_head``, to each only if it requires one; padded head rows get zero. NaN in hidden
    states is not refused, it shows in the loss.

    Args:
        student_hidden: [M, Ds] last hidden states at the positions that predict the response tokens.
        student_head: [R, Ds] output head; its first ``vocab_size`` rows count.
        teacher_hidden: [M, Dt] the teacher's, given the original image.
        teacher_head: [R', Dt] the teacher's output head.
        token_weights: [M] coefficients; they hold every normalisation, the loss is a plain sum.
        chunk_size: rows taken at a time, ``default_chunk_size(vocab_size)`` by default; changes memory, not the result.
        token_ids: [M] ids in [0, vocab_size), to have the student's log-probabilities of them as well.
    Returns:
        loss: [] sum of token_weights * kl; with M == 0 it is 0 and still has a graph, so that ranks stay in step.
        kl: [M] detached. Without ``token_ids`` rows of weight 0 are skipped and reported as 0; with it, all are there.
        log_probs: [M] detached, nats, only with ``token_ids``; rows of weight 0 cost no gradient here either.
    Raises:
        ValueError: shapes differ, hidden states and head of a model differ in dtype, a weight not finite, an id outside
            the vocabulary, vocab_size larger than a head.
    """
    return fused_linear_kl(
        reverse_kl_rows,
        *(student_hidden, student_head, teacher_hidden, teacher_head, token_weights, vocab_size, chunk_size, token_ids),
    )


def reverse_kl_rows(log_p_S: Tensor, log_p_T: Tensor) -> tuple[Tensor, Tensor]:
    """KL(student || teacher) of each row [rows, 1] and its gradient by the student's logits [rows, V]; both arguments
    are overwritten."""
    log_ratio = torch.sub(log_p_S, log_p_T, out=log_p_T)
    p_S = log_p_S.exp_()
    summands = log_ratio.mul_(p_S)  # p_S (log p_S - log p_T), of KL_t
    kl = summands.sum(dim=1, keepdim=True)
    return kl, summands.addcmul_(p_S, kl, value=-1)  # dKL_t/dz_S = p_S (log p_S - log p_T - KL_t)


def fused_linear_kl(
    divergence,
    student_hidden,
    student_head,
    teacher_hidden,
    teacher_head,
    token_weights,
    vocab_size,
    chunk_size,
    token_ids,
) -> tuple[Tensor, ...]:
    """What the fused divergences share: arguments and results of :func:`fused_linear_reverse_kl`, for
    ``divergence(log_p_S, log_p_T) -> (value of each row, its gradient by the student's logits)``."""
    check_linear("student", student_hidden, student_head, vocab_size)
    check_linear("teacher", teacher_hidden, teacher_head, vocab_size)
    rows = len(student_hidden)
    check_shape("teacher_hidden", teacher_hidden, (rows, teacher_head.shape[1]), "student_hidden")
    check_shape("token_weights", token_weights, (rows,), "student_hidden")
    check_finite("token_weights", token_weights)
    if token_ids is not None:
        check_token_ids(token_ids, rows, vocab_size)
    loss, kl, log_probs = _FusedLinearKL.apply(
        divergence,
        student_hidden,
        student_head,
        teacher_hidden.detach(),  # constants, whether or not they ask for a gradient
        teacher_head.detach(),
        token_weights.detach(),
        vocab_size,
        min(checked_chunk_size(chunk_size, vocab_size, student_hidden.dtype), max(1, rows)),
        token_ids,
        torch.is_grad_enabled(),
    )
    return (loss, kl) if token_ids is None else (loss, kl, log_probs)


class _FusedLinearKL(torch.autograd.Function):
    @staticmethod
    def forward(ctx, divergence, h_S, head_S, h_T, head_T, weights, vocab_size, chunk_size, token_ids, grad_enabled):
        dtype = softmax_dtype(h_S, h_T)
        weights = weights.to(dtype)
        kl = torch.zeros(len(h_S), dtype=dtype, device=h_S.device)
        log_probs = torch.zeros_like(kl) if token_ids is not None else None
        wants_hidden, wants_head = (grad_enabled and wanted for wanted in ctx.needs_input_grad[1:3])
        counted = weights.nonzero().squeeze(1)
        parts = [(counted, wants_hidden or wants_head)]
        if token_ids is not None:
            parts.append(((weights == 0).nonzero().squeeze(1), False))
        grad_hidden = torch.zeros_like(h_S) if wants_hidden else None
        grad_head = (
            HeadGradient(head_S, vocab_size, dtype, chunks=-(-len(counted) // chunk_size)) if wants_head else None
        )

        # The only [chunk, V] tensors, used by every chunk; softmaxes have fewer rows.
        logits_S, logits_T = (h.new_empty(chunk_size, vocab_size) for h in (h_S, h_T))
        block = min(softmax_rows(h_S.device), chunk_size)
        buffer_S, buffer_T = (h_S.new_empty(block, vocab_size, dtype=dtype) for _ in range(2))
        W_S, W_T = head_S[:vocab_size], head_T[:vocab_size]
        with torch.autocast(h_S.device.type, enabled=False):  # products in the input dtype
            for part, with_gradient in parts:
                for chunk in part.split(chunk_size):
                    h = h_S[chunk]
                    z_S = torch.mm(h, W_S.t(), out=logits_S[: len(chunk)])
                    z_T = torch.mm(h_T[chunk], W_T.t(), out=logits_T[: len(chunk)])
                    for rows, dz, z in zip(chunk.split(block), z_S.split(block), z_T.split(block), strict=True):
                        log_p_S = log_softmax(dz, buffer_S[: len(rows)])
                        if token_ids is not None:
                            log_probs[rows] = log_p_S.gather(1, token_ids[rows, None].long()).squeeze(1)
                        log_p_T = log_softmax(z, buffer_T[: len(rows)])
                        kl_rows, gradient = divergence(log_p_S, log_p_T)
                        kl[rows] = kl_rows.squeeze(1)
                        if with_gradient:
                            dz.copy_(gradient)  # in place of the logits
                    if not with_gradient:
                        continue
                    w = weights[chunk, None]  # applied to [chunk, Ds], not to [chunk, V]
                    if wants_hidden:
                        grad_hidden[chunk] = ((z_S @ W_S) * w).to(h.dtype)
                    if wants_head:
                        grad_head.add(z_S, (h * w).to(h.dtype))
        del logits_S, logits_T, z_S, z_T, dz, z  # before the head's gradient is cast
        ctx.save_for_backward(grad_hidden, grad_head.result() if wants_head else None)
        ctx.mark_non_differentiable(*(out for out in (kl, log_probs) if out is not None))
        return (weights * kl).sum(), kl, log_probs  # the weights hold every normalisation

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_loss, *_):
        as_saved = bool(grad_loss == 1)  # no copy of a gradient of the head's size
        grads = [
            saved if saved is None or as_saved else saved * grad_loss.to(saved.dtype) for saved in ctx.saved_tensors
        ]
        return None, *grads, None, None, None, None, None, None, None


class HeadGradient:
    """Sum over chunks of dz^T h, [R, Ds]: in float32, or in the head's dtype where there is one chunk only."""

    BLOCK = 8192  # head rows of a product that has to be cast

    def __init__(self, head: Tensor, vocab_size: int, dtype: torch.dtype, chunks: int):
        self.total = torch.empty_like(head, dtype=head.dtype if chunks == 1 else dtype)
        self.total[vocab_size if chunks else 0 :].zero_()  # padded rows; all, if there is nothing to add
        self.rows, self.dtype, self.is_first = self.total[:vocab_size], head.dtype, True

    def add(self, dz: Tensor, h: Tensor) -> None:
        if self.rows.dtype == h.dtype:
            torch.mm(dz.t(), h, out=self.rows) if self.is_first else self.rows.addmm_(dz.t(), h)
        else:
            for columns, rows in zip(dz.split(self.BLOCK, dim=1), self.rows.split(self.BLOCK), strict=True):
                product = columns.t() @ h
                rows.copy_(product) if self.is_first else rows.add_(product)
        self.is_first = False

    def result(self) -> Tensor:
        return self.total.to(self.dtype)
