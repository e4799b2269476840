"""Log-softmax of a linear layer, one chunk of rows at a time: what the functions that never hold M x V share."""

from collections.abc import Iterator

import torch
from torch import Tensor

from verl_vaopd.algorithm.checks import check_vocab_size


def softmax_rows(device: torch.device) -> int:
    """Rows whose float32 softmaxes are alive at a time: enough to keep a GPU busy, or few enough for a CPU's cache."""
    return 16 if device.type == "cpu" else 64


def default_chunk_size(vocab_size: int, budget_bytes: int = 2**29, dtype: torch.dtype = torch.float32) -> int:
    """Rows per chunk such that the logits [chunk, V] of two models fit in ``budget_bytes`` (512 MiB by default).

    Larger chunks add into the head's gradient less often; smaller ones need less memory. The result is the same.

    Args:
        dtype: of the logits, which is that of hidden states and heads.
    Returns:
        At least 1; a multiple of 64 from 64 on, as GEMM tiles like it. 384 (fp32) or 832 (bf16) for V = 151,669.
    Raises:
        ValueError: a size or budget below 1.
    """
    if vocab_size < 1 or budget_bytes < 1:
        raise ValueError(f"vocab_size and budget_bytes must be at least 1, got {vocab_size} and {budget_bytes}")
    rows = budget_bytes // (2 * dtype.itemsize * vocab_size)
    return rows // 64 * 64 if rows >= 64 else max(1, rows)


def checked_chunk_size(chunk_size: int | None, vocab_size: int, dtype: torch.dtype) -> int:
    """The chunk size to use: the given one, or the default; ValueError below 1."""
    if chunk_size is None:
        return default_chunk_size(vocab_size, dtype=dtype)
    if chunk_size < 1:
        raise ValueError(f"chunk_size must be at least 1, got {chunk_size}")
    return chunk_size


def check_linear(model: str, hidden: Tensor, head: Tensor, vocab_size: int) -> None:
    """ValueError unless ``hidden`` [M, D] and ``head`` [R >= V, D] fit each other, in one floating dtype."""
    if hidden.dim() != 2 or head.dim() != 2 or hidden.shape[1] != head.shape[1]:
        raise ValueError(
            f"{model}: hidden states must be [M, D] and the head [R, D] of the same D, "
            f"got {list(hidden.shape)} and {list(head.shape)}"
        )
    if hidden.dtype != head.dtype or not hidden.is_floating_point():
        raise ValueError(
            f"{model}: hidden states are {hidden.dtype} and the head is {head.dtype}; "
            "cast one of them, both must be of one floating dtype"
        )
    check_vocab_size(vocab_size, **{f"the head of the {model}": head.shape[0]})


def softmax_dtype(*inputs: Tensor) -> torch.dtype:
    """float32, or float64 where an input is: the dtype of softmaxes, reductions and accumulated gradients."""
    return torch.float64 if any(x.dtype == torch.float64 for x in inputs) else torch.float32


def log_softmax(logits: Tensor, out: Tensor) -> Tensor:
    """log softmax over the last dimension, in the dtype and memory of ``out``. Call without autograd."""
    if logits.dtype != out.dtype and logits.device.type == "cpu":
        # The CPU kernel for mixed dtypes is several times slower than a copy and a softmax in place.
        return torch.log_softmax(out.copy_(logits), dim=-1, out=out)
    return torch.log_softmax(logits, dim=-1, dtype=out.dtype, out=out)


def log_prob_blocks(
    hidden: Tensor, head: Tensor, vocab_size: int, chunk_size: int | None
) -> Iterator[tuple[Tensor, Tensor]]:
    """(row numbers, their log-probabilities [rows, V]) of checked inputs, block by block until all rows were given.

    A block may be overwritten, and is by the next. Call without autograd and, as products are in the input dtype,
    without autocast.
    """
    chunk_size = min(checked_chunk_size(chunk_size, vocab_size, hidden.dtype), max(1, len(hidden)))
    head = head[:vocab_size]
    logits = hidden.new_empty(chunk_size, vocab_size)
    block = min(softmax_rows(hidden.device), chunk_size)
    buffer = hidden.new_empty(block, vocab_size, dtype=softmax_dtype(hidden))
    for chunk in torch.arange(len(hidden), device=hidden.device).split(chunk_size):
        z = torch.mm(hidden[chunk], head.t(), out=logits[: len(chunk)])
        for rows, z_rows in zip(chunk.split(block), z.split(block), strict=True):
            yield rows, log_softmax(z_rows, buffer[: len(rows)])
