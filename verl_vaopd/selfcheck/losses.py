"""Fused losses against the plain form in float64, and against their bare GEMMs in time and memory."""

import time
from collections.abc import Callable, Iterator
from functools import partial

import torch

from verl_vaopd.algorithm.forward_kl import fused_linear_forward_kl
from verl_vaopd.algorithm.fused_jensen_shannon import fused_linear_jsd
from verl_vaopd.algorithm.fused_reverse_kl import fused_linear_reverse_kl
from verl_vaopd.algorithm.jensen_shannon import generalised_jsd
from verl_vaopd.selfcheck.check import Check, at_most, guarded, not_checked

LOSSES = {  # name -> fused form, beta of the plain one
    "reverse KL": (fused_linear_reverse_kl, 1),
    "forward KL": (fused_linear_forward_kl, 0),
    "JSD": (partial(fused_linear_jsd, beta=0.5), 0.5),
}
SIZES = {"cpu": (48, 64, 96, 1000), "cuda": (2048, 2048, 4096, 151936)}  # tokens, widths, vocabulary
LIMIT = {"cpu": 1e-5, "cuda": 0.03}  # relative, float32 and bfloat16
TIME_LIMIT, MEMORY_LIMIT = 4.0, 1.5  # times the bare GEMMs; not measured on a GPU so far


def inputs(device: str, tokens: int, student: int, teacher: int, vocabulary: int) -> list[torch.Tensor]:
    """Hidden states and heads of student and teacher, and token weights, on ``device`` in its dtype."""
    dtype, generator = torch.bfloat16 if device == "cuda" else torch.float32, torch.Generator().manual_seed(0)
    draw = partial(torch.randn, generator=generator)
    made = []
    for width in (student, teacher):
        made += [draw(tokens, width), 2 * draw(vocabulary, width) / width**0.5]
    made = [x.to(device, dtype) for x in made]
    return [*made, torch.rand(tokens, generator=generator).to(device)]


def gradients(loss: torch.Tensor, wrt: list[torch.Tensor]) -> list[torch.Tensor]:
    return [loss.detach(), *torch.autograd.grad(loss, wrt)]


def exactness(name: str, device: str) -> Iterator[Check]:
    """Loss, and gradients of hidden states and head, on few tokens."""
    fused, beta = LOSSES[name]
    tokens, student, teacher, vocabulary = SIZES["cpu"]
    hidden, head, teacher_hidden, teacher_head, weights = inputs(device, tokens, student, teacher, vocabulary)
    own = [hidden.requires_grad_(), head.requires_grad_()]
    loss = fused(*own, teacher_hidden, teacher_head, weights, vocab_size=vocabulary, chunk_size=16)[0]
    got = gradients(loss, own)
    own = [x.detach().double().requires_grad_() for x in own]
    logits = own[0] @ own[1].t(), teacher_hidden.double() @ teacher_head.double().t()
    wanted = gradients((weights.double() * generalised_jsd(*logits, beta)).sum(), own)
    errors = [(a.double() - b).abs().max() / b.abs().max() for a, b in zip(got, wanted, strict=True)]
    yield at_most(
        f"fused {name}: loss, gradients", torch.stack(errors).max(), LIMIT[device], "relative", "against float64"
    )


def measured(run: Callable[[], object]) -> tuple[float, float]:
    """Seconds of the fastest of three, and bytes at the peak above what stood before."""
    run()
    seconds = []
    for _ in range(3):
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before, started = torch.cuda.memory_allocated(), time.perf_counter()
        run()
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return min(seconds), torch.cuda.max_memory_allocated() - before


def cost(name: str) -> Iterator[Check]:
    """Against the same four GEMMs by chunks, without softmaxes."""
    fused, _ = LOSSES[name]
    hidden, head, teacher_hidden, teacher_head, weights = inputs("cuda", *SIZES["cuda"])
    own, vocabulary = [hidden.requires_grad_(), head.requires_grad_()], SIZES["cuda"][-1]

    def whole():
        gradients(fused(*own, teacher_hidden, teacher_head, weights, vocab_size=vocabulary)[0], own)

    @torch.no_grad()
    def bare():
        head_gradient = torch.zeros_like(head)
        for rows, teacher_rows in zip(hidden.split(512), teacher_hidden.split(512), strict=True):
            logits = rows @ head.t()
            teacher_rows @ teacher_head.t()
            logits @ head
            head_gradient.addmm_(logits.t(), rows)

    (seconds, peak), (bare_seconds, bare_peak) = measured(whole), measured(bare)
    yield at_most(f"fused {name}: time", seconds / bare_seconds, TIME_LIMIT, "x GEMMs", f"{seconds:.4f} s")
    yield at_most(f"fused {name}: peak memory", peak / bare_peak, MEMORY_LIMIT, "x GEMMs", f"{peak / 1e9:.2f} GB")


def checks(device: str) -> Iterator[Check]:
    for name in LOSSES:
        yield from guarded(f"fused {name}", partial(exactness, name, device))
        if device == "cuda":
            yield from guarded(f"fused {name}: cost", partial(cost, name))
        else:
            yield not_checked(f"fused {name}: time, memory", "measured on a GPU only")
