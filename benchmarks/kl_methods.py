"""Ways to the weighted reverse KL from hidden states: this project's, the plain ones, other packages'; their inputs.

Liger's and TRL's losses need `liger-kernel` and `trl`; this project does not.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from verl_vaopd.algorithm import fused_linear_reverse_kl

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
HELD_CHUNK = 128  # rows of the recomputed KL


@dataclass(frozen=True)
class Case:
    """One measurement. Sizes: rows N, vocabulary V, student width Ds, teacher width Dt."""

    method: str
    device: str
    dtype: str
    rows: int
    vocab_size: int
    student_width: int
    teacher_width: int
    chunk_size: int
    threads: int
    repeats: int

    @property
    def logits(self) -> int:
        """Bytes of one model's logits [N, V] in float32."""
        return 4 * self.rows * self.vocab_size

    @property
    def gradients(self) -> int:
        """Bytes of the gradients, which every method returns."""
        return DTYPES[self.dtype].itemsize * self.student_width * (self.rows + self.vocab_size)

    @property
    def inputs(self) -> int:
        """Bytes of hidden states and heads."""
        return DTYPES[self.dtype].itemsize * (self.student_width + self.teacher_width) * (self.rows + self.vocab_size)


class Inputs(NamedTuple):
    """Hidden states [N, D], heads [V, D], weights [N]; the student's require gradients."""

    student_hidden: Tensor
    student_head: Tensor
    teacher_hidden: Tensor
    teacher_head: Tensor
    weights: Tensor


def make_inputs(case: Case) -> Inputs:
    """Normal numbers, of such a scale that logits have variance 1; the same for every method."""
    generator = torch.Generator().manual_seed(0)

    def normal(rows: int, width: int, scale: float) -> Tensor:
        result = torch.empty(rows, width, dtype=DTYPES[case.dtype], device=case.device)
        for part in result.split(4096):
            part.copy_(scale * torch.randn(part.shape, generator=generator))
        return result

    tensors = []
    for width in (case.student_width, case.teacher_width):
        tensors += [normal(case.rows, width, 1.0), normal(case.vocab_size, width, 1 / math.sqrt(width))]
    weights = torch.rand(case.rows, generator=generator).to(case.device) / case.rows
    tensors[0].requires_grad_(), tensors[1].requires_grad_()
    return Inputs(*tensors, weights)


# The methods. Each takes the inputs and the rows per chunk and returns a function without arguments, the forward. It
# gives the loss to apply autograd to, and the KL of each row or, where a method has no weights, their mean. The GEMMs
# alone give what has the gradients' shapes.


def fused(x: Inputs, chunk_size: int) -> Callable:
    return lambda: fused_linear_reverse_kl(*x, len(x.student_head), chunk_size)


def plain(x: Inputs, chunk_size: int) -> Callable:
    def forward():
        log_p_S = torch.log_softmax(x.student_hidden @ x.student_head.t(), dim=-1, dtype=torch.float32)
        log_p_T = torch.log_softmax(x.teacher_hidden @ x.teacher_head.t(), dim=-1, dtype=torch.float32)
        kl = (log_p_S.exp() * (log_p_S - log_p_T)).sum(dim=-1)
        return (x.weights * kl).sum(), kl.detach()

    return forward


def held(x: Inputs, chunk_size: int) -> Callable:
    def rows_kl(z_S: Tensor, z_T: Tensor) -> Tensor:
        log_p_S, log_p_T = (torch.log_softmax(z, dim=-1, dtype=torch.float32) for z in (z_S, z_T))
        return (log_p_S.exp() * (log_p_S - log_p_T)).sum(dim=-1)

    def forward():
        z_S, z_T = x.student_hidden @ x.student_head.t(), x.teacher_hidden @ x.teacher_head.t()
        chunks = zip(z_S.split(HELD_CHUNK), z_T.split(HELD_CHUNK), strict=True)
        kl = torch.cat([checkpoint(rows_kl, *chunk, use_reentrant=False) for chunk in chunks])
        return (x.weights * kl).sum(), kl.detach()

    return forward


def gemms(x: Inputs, chunk_size: int) -> Callable:
    @torch.no_grad()
    def forward():
        logits = x.student_head.new_empty(min(chunk_size, len(x.student_hidden)), len(x.student_head))
        grad_hidden, grad_head = torch.empty_like(x.student_hidden), torch.empty_like(x.student_head)
        hidden = zip(*(h.split(chunk_size) for h in (x.student_hidden, x.teacher_hidden, grad_hidden)), strict=True)
        for h_S, h_T, grad in hidden:
            z = logits[: len(h_S)]
            torch.mm(h_T, x.teacher_head.t(), out=z)
            torch.mm(h_S, x.student_head.t(), out=z)
            torch.mm(z, x.student_head, out=grad)
            torch.mm(z.t(), h_S, out=grad_head)
        return grad_hidden, grad_head

    return forward


def liger(x: Inputs, chunk_size: int) -> Callable:
    from liger_kernel.chunked_loss import LigerFusedLinearJSDLoss

    # beta = 1: KL(student || teacher). Its own chunks, of about 1024 rows; the mean over rows, no weights.
    loss_of = LigerFusedLinearJSDLoss(weight_hard_loss=0.0, weight_soft_loss=1.0, beta=1.0)
    labels = torch.zeros(len(x.student_hidden), dtype=torch.long, device=x.weights.device)

    def forward():
        loss = loss_of(*x[:4], labels)
        return loss, loss.detach()

    return forward


def liger_triton(x: Inputs, chunk_size: int) -> Callable:
    from liger_kernel.transformers.fused_linear_jsd import LigerFusedLinearJSD

    loss_of = LigerFusedLinearJSD(jsd_beta=1.0)  # as above

    def forward():
        loss = loss_of(*x[:4], None)
        return loss, loss.detach()

    return forward


def trl(x: Inputs, chunk_size: int) -> Callable:
    from trl.kernels.chunked_divergence import ChunkedDivergenceFunction

    def forward():  # beta = 1: KL(student || teacher); its own tiles, of 4096 rows and 32768 ids
        kl, _ = ChunkedDivergenceFunction.apply(
            x.student_hidden, x.student_head, None, x.teacher_hidden, x.teacher_head, None, 1.0
        )
        return (x.weights * kl).sum(), kl.detach()

    return forward


@dataclass(frozen=True)
class Method:
    """How a method is named, prepared and sized."""

    title: str
    prepare: Callable[[Inputs, int], Callable]
    estimate: Callable[[Case], float]  # bytes above the inputs, rough, from measurements at small sizes
    package: str | None = None  # of others; then the first call, which may compile, is left out of the peak
    weighted: bool = True  # takes per-row weights; else the loss is the mean
    cuda_only: bool = False


def fused_estimate(case: Case) -> float:
    chunk = 2 * DTYPES[case.dtype].itemsize / 4 * case.logits * min(1, case.chunk_size / case.rows)
    softmaxes = 2 * case.logits * min(1, 64 / case.rows)
    return chunk + softmaxes + 4 * case.student_width * case.vocab_size + case.gradients


METHODS = {
    "fused": Method("fused, this project", fused, fused_estimate),
    "plain": Method("plain: full logits", plain, lambda case: 5 * case.logits + case.gradients),
    "held": Method(
        "logits held, KL recomputed",
        held,
        lambda case: case.logits * (DTYPES[case.dtype].itemsize + 5 * min(1, HELD_CHUNK / case.rows)) + case.gradients,
    ),
    "gemms": Method("the four GEMMs alone", gemms, lambda case: case.logits + case.gradients),
    "liger": Method(
        "Liger LigerFusedLinearJSDLoss",
        liger,
        lambda case: 7 * case.logits * min(1, 1024 / case.rows) + 2 * case.gradients,
        package="liger_kernel",
        weighted=False,
    ),
    "liger-triton": Method(
        "Liger LigerFusedLinearJSD",
        liger_triton,
        lambda case: 7 * case.logits * case.student_width / case.vocab_size + 2 * case.gradients,
        package="liger_kernel",
        weighted=False,
        cuda_only=True,
    ),
    "trl": Method(
        "TRL ChunkedDivergenceFunction",
        trl,
        lambda case: 8 * case.logits * min(1, 32768 / case.vocab_size) + 3 * case.gradients,
        package="trl",
    ),
}
