"""Log-probability of given tokens with its gradient, without a tensor of rows x vocabulary: what policy gradients need.

The gradient depends on what is made of the log-probabilities, so unlike that of the fused KL it cannot be formed in the
forward: the backward computes a chunk's logits again.
"""

import torch
from torch import Tensor

from verl_vaopd.algorithm.checks import check_positive, check_token_ids
from verl_vaopd.algorithm.fused_reverse_kl import HeadGradient
from verl_vaopd.algorithm.linear_log_softmax import check_linear, checked_chunk_size, softmax_dtype, softmax_rows


def policy_log_probs(
    hidden: Tensor,
    head: Tensor,
    token_ids: Tensor,
    vocab_size: int,
    temperature: float = 1.0,
    chunk_size: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Log-probability of one token per row under softmax(logits / temperature), in nats.

    Args:
        hidden: [M, D] last hidden states, each that predicts the token of its row.
        head: [R, D] output head, of the dtype of ``hidden``; the softmax runs over its first ``vocab_size`` rows.
        token_ids: [M] integers in [0, vocab_size).
        temperature: of the policy that sampled.
        chunk_size: rows taken at a time; by default ``default_chunk_size(vocab_size)``; the result is the same.
    Returns:
        log_probs: [M] float32 (float64 for float64 inputs), with gradients to ``hidden`` and ``head``.
        at_one: [M] detached, at temperature 1.
    Raises:
        ValueError: shapes or dtypes differ, an id outside the vocabulary, vocab_size larger than the head, temperature
            not positive.
    """
    check_linear("model", hidden, head, vocab_size)
    check_token_ids(token_ids, len(hidden), vocab_size)
    check_positive("temperature", temperature)
    chunk_size = min(checked_chunk_size(chunk_size, vocab_size, hidden.dtype), max(1, len(hidden)))
    return _PolicyLogProbs.apply(hidden, head, token_ids.long(), vocab_size, float(temperature), chunk_size)


def _chunks(hidden: Tensor, head: Tensor, chunk_size: int):
    """(rows of the chunk, its logits), one buffer for all chunks."""
    logits = hidden.new_empty(chunk_size, len(head))
    for chunk in torch.arange(len(hidden), device=hidden.device).split(chunk_size):
        yield chunk, torch.mm(hidden[chunk], head.t(), out=logits[: len(chunk)])


class _PolicyLogProbs(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden, head, token_ids, vocab_size, temperature, chunk_size):
        dtype = softmax_dtype(hidden)
        log_probs, at_one = (hidden.new_empty(len(hidden), dtype=dtype) for _ in range(2))
        normaliser = torch.empty_like(log_probs)  # log-sum-exp of logits / temperature
        block = softmax_rows(hidden.device)
        with torch.autocast(hidden.device.type, enabled=False):  # products in the input dtype
            for chunk, logits in _chunks(hidden, head[:vocab_size], chunk_size):
                for rows, z in zip(chunk.split(block), logits.split(block), strict=True):
                    z = z.to(dtype)
                    token = z.gather(1, token_ids[rows, None]).squeeze(1)
                    at_one[rows] = token - z.logsumexp(1)
                    normaliser[rows] = (
                        at_one[rows].sub(token).neg() if temperature == 1 else (z / temperature).logsumexp(1)
                    )
                    log_probs[rows] = token / temperature - normaliser[rows]
        ctx.save_for_backward(hidden, head, token_ids, normaliser)
        ctx.settings = vocab_size, temperature, chunk_size
        ctx.mark_non_differentiable(at_one)
        return log_probs, at_one

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad, _):
        hidden, head, token_ids, normaliser = ctx.saved_tensors
        vocab_size, temperature, chunk_size = ctx.settings
        wants_hidden, wants_head = ctx.needs_input_grad[:2]
        dtype = normaliser.dtype
        grad_hidden = torch.zeros_like(hidden) if wants_hidden else None
        chunks = -(-len(hidden) // chunk_size)
        grad_head = HeadGradient(head, vocab_size, dtype, chunks) if wants_head else None
        block = softmax_rows(hidden.device)
        with torch.autocast(hidden.device.type, enabled=False):
            for chunk, logits in _chunks(hidden, head[:vocab_size], chunk_size):
                for rows, z in zip(chunk.split(block), logits.split(block), strict=True):
                    dz = (z.to(dtype) / temperature).sub_(normaliser[rows, None]).exp_().neg_()  # -p
                    dz.scatter_add_(1, token_ids[rows, None], torch.ones_like(dz[:, :1]))  # 1[v = token] - p_v
                    z.copy_(dz.mul_(grad[rows, None] / temperature))  # in place of the logits
                if wants_hidden:
                    grad_hidden[chunk] = logits @ head[:vocab_size]
                if wants_head:
                    grad_head.add(logits, hidden[chunk])
        return grad_hidden, grad_head.result() if wants_head else None, None, None, None, None
