"""The kernels that attend by segments: one layout, three ways to compute it, all with gradients into shared prompts.

Legend: H query heads, Hkv key and value heads, T tokens, D head size.
No kernel holds scores or a mask of tokens x tokens on a GPU. Their names as transformers sees them are in
:mod:`verl_vaopd.model.attention`.
"""

from functools import partial
from importlib import import_module
from importlib.util import find_spec

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.bias import causal_lower_right
from torch.nn.attention.varlen import varlen_attn

from verl_vaopd.model.segments import Segments

HALVES = (torch.bfloat16, torch.float16)  # what varlen kernels compute in


def sdpa_segments(q: Tensor, k: Tensor, v: Tensor, segments: Segments, scale: float) -> Tensor:
    """One call a segment. q [1, H, T, D]; k, v [1, Hkv, T, D]. Returns [1, T, H, D].

    On a GPU each query head gets a key head of its own and a branch has a bias in the place of a mask: with fewer key
    heads or with a mask, torch falls back to the kernel that holds all scores.
    """
    if q.is_cuda:
        k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (k, v))
    attend = partial(F.scaled_dot_product_attention, scale=scale, enable_gqa=q.shape[1] != k.shape[1])
    pieces = []
    for own, prefix in segments.spans:
        if prefix is None:
            pieces.append(attend(q[:, :, own], k[:, :, own], v[:, :, own], is_causal=True))
            continue
        keys, values = (torch.cat([x[:, :, prefix], x[:, :, own]], dim=2) for x in (k, v))
        length, before = own.stop - own.start, prefix.stop - prefix.start
        bias = causal_lower_right(length, before + length) if q.is_cuda else segments.mask(length, before, q.device)
        pieces.append(attend(q[:, :, own], keys, values, attn_mask=bias))
    return torch.cat(pieces, dim=2).transpose(1, 2)


def varlen_segments(q: Tensor, k: Tensor, v: Tensor, segments: Segments, scale: float) -> Tensor:
    """As :func:`sdpa_segments`, by the varlen kernel that torch ships (FlashAttention 2). bf16 or fp16, GPUs only."""
    # A window of all tokens before and none after: causal, aligned to the lower right. As a tuple: torch compares it.
    return two_calls(partial(varlen_attn, scale=scale, window_size=(-1, 0)), q, k, v, segments)


def flash_segments(q: Tensor, k: Tensor, v: Tensor, segments: Segments, scale: float) -> Tensor:
    """As :func:`varlen_segments`, by the package flash-attn."""
    from flash_attn import flash_attn_varlen_func

    return two_calls(partial(flash_attn_varlen_func, softmax_scale=scale, causal=True), q, k, v, segments)


def two_calls(attend, q: Tensor, k: Tensor, v: Tensor, segments: Segments) -> Tensor:
    """One call of a varlen kernel for the roots, one for the branches. Both kernels take fewer key heads than query
    heads."""
    q, k, v = (x[0].transpose(0, 1) for x in (q, k, v))  # [T, heads, D]
    b, roots = segments.bounds(q.device), sum(segments.roots)
    out = attend(q[:roots], k[:roots], v[:roots], b.roots, b.roots, b.longest_root, b.longest_root)
    if segments.branches:
        keys, values = k[b.positions], v[b.positions]
        out = torch.cat([out, attend(q[roots:], keys, values, b.queries, b.keys, b.longest_query, b.longest_key)])
    return out[None]


KERNELS = {"flash_attention_2": flash_segments, "varlen": varlen_segments, "sdpa": sdpa_segments}


def resolve_attention(asked: str, device_type: str, dtype: torch.dtype) -> str:
    """The kernel that ``attn_implementation`` means on a machine, a key of ``KERNELS``; touches no device.

    ``auto`` is flash-attn where it can be imported, else ``varlen``; sdpa where those cannot run: without a GPU, or in
    fp32. To call before anything is loaded, once for each model:
    ``resolve_attention(override_config.get("attn_implementation", "auto"), "cuda", torch.bfloat16)``.

    Args:
        asked: the setting, in override_config of the model.
        device_type: ``cuda`` or ``cpu``.
        dtype: what the model computes in: ``mixed_precision.param_dtype`` of the student, ``dtype`` of the teacher.
    Raises:
        ValueError: an unknown kernel, or one that is not installed or cannot run on such a device or in this dtype.
    """
    fits = device_type == "cuda" and dtype in HALVES
    if asked == "auto":
        if not fits:
            return "sdpa"
        return "varlen" if flash_attn_fault() else "flash_attention_2"
    if asked not in KERNELS:
        raise refusal(asked, f"one of auto, {', '.join(KERNELS)}")
    if asked != "sdpa" and not fits:
        raise refusal(asked, f"auto or sdpa: it runs on GPUs in bf16 or fp16, this is {device_type} in {dtype}")
    if asked == "flash_attention_2" and (fault := flash_attn_fault()):
        raise refusal(asked, f"auto or varlen, or flash-attn installed (docs/cluster.md): {fault}")
    return asked


def refusal(asked: str, wanted: str) -> ValueError:
    return ValueError(
        f"attn_implementation={asked!r}: must be {wanted} (actor_rollout_ref.model.override_config for the student, "
        "vaopd.teacher.override_config for the teacher)"
    )


def flash_attn_fault() -> str | None:
    """Why flash-attn cannot be used, or None. A package built for another torch is found but cannot be imported."""
    if find_spec("flash_attn") is None:
        return "it is not installed"
    try:
        import_module("flash_attn")
    except ImportError as error:
        return f"it cannot be imported: {error}"
    return None
