"""Attention kernels over roots and branches against the definition, forward and gradients."""

from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec

import torch
from torch import Tensor

from verl_vaopd.model import kernels as home
from verl_vaopd.model.segments import Segments
from verl_vaopd.selfcheck.check import Check, at_most, guarded, not_checked

LIMIT = {torch.float32: 1e-5, torch.bfloat16: 0.02}
"""Largest difference over the largest value: some units in the last place of the dtype."""
NEEDS = {"flash_segments": "flash_attn"}  # kernel -> package; such a kernel runs on GPUs only
HEADS, KV_HEADS, WIDTH, SCALE = 8, 4, 64, 0.125


def kernels() -> list[str]:
    """The kernels of ``model/kernels.py``, by name."""
    return sorted(name for name in vars(home) if name.endswith("_segments"))


def segments() -> Segments:
    """Two prompts of 40 and 33 tokens with four and two responses."""
    return Segments([57, 34], [20, 1, 9, 30], [(0, 40), (0, 40), (0, 40), (57, 33)])


def reference(q: Tensor, k: Tensor, v: Tensor, layout: Segments, scale: float) -> Tensor:
    """The definition, in the inputs' dtype: one mask over the whole sequence. Returns [1, T, H, D]."""
    mask = torch.zeros(q.shape[2], q.shape[2], dtype=torch.bool, device=q.device)
    for own, prefix in layout.spans:
        mask[own, own] = torch.ones(own.stop - own.start, own.stop - own.start, dtype=torch.bool).tril().to(q.device)
        if prefix is not None:
            mask[own, prefix] = True
    k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for x in (k, v))
    scores = (q @ k.transpose(2, 3) * scale).masked_fill(~mask, float("-inf"))
    return (scores.softmax(-1) @ v).transpose(1, 2)


def differences(kernel, device: str, dtype: torch.dtype) -> tuple[float, float]:
    """Of the output and of the gradients, relative to the largest value, against float64."""
    layout, generator = segments(), torch.Generator().manual_seed(0)
    tokens = sum(layout.roots + layout.branches)
    drawn = [torch.randn(1, heads, tokens, WIDTH, generator=generator) for heads in (HEADS, KV_HEADS, KV_HEADS)]
    onward = torch.randn(1, tokens, HEADS, WIDTH, generator=generator).to(device, dtype)
    results = []
    for run, kind in ((kernel, dtype), (reference, torch.float64)):
        inputs = [x.to(device, dtype).to(kind).requires_grad_() for x in drawn]
        out = run(*inputs, segments(), SCALE)
        results.append([out.detach(), *torch.autograd.grad(out, inputs, onward.to(kind))])
    errors = [
        float((got.double() - wanted).abs().max() / wanted.abs().max()) for got, wanted in zip(*results, strict=True)
    ]
    return errors[0], float(torch.tensor(errors[1:]).max())  # NaN stays NaN, unlike by max()


def check_kernel(name: str, device: str) -> Iterator[Check]:
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    forward, backward = differences(getattr(home, name), device, dtype)
    kind = str(dtype).removeprefix("torch.")
    yield at_most(f"attention {name}: forward", forward, LIMIT[dtype], "relative", kind)
    yield at_most(f"attention {name}: gradients", backward, LIMIT[dtype], "relative", kind)


def checks(device: str) -> Iterator[Check]:
    """Every kernel that can run here; the others say what they need."""
    for name in kernels():
        if device != "cuda" and name != "sdpa_segments":
            yield not_checked(f"attention {name}", "runs on GPUs only")
        elif name in NEEDS and find_spec(NEEDS[name]) is None:
            yield not_checked(f"attention {name}", f"{NEEDS[name]} is not installed")
        else:
            yield from guarded(f"attention {name}", partial(check_kernel, name, device))
