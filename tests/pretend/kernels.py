"""Stand-ins for the attention kernels of a GPU. Each checks its arguments as the real one does and computes on the CPU.

For scaled_dot_product_attention the choice that torch makes on CUDA is made here (aten/native/transformers/cuda/
sdp_utils.cpp): flash for bf16 and fp16 without a mask, memory-efficient where all heads are alike, else the math
kernel, which holds all scores; here it is refused.
"""

import contextlib
import math
import sys
from collections import Counter
from itertools import pairwise
from types import SimpleNamespace
from unittest import mock

import torch
import torch.nn.functional as F
from torch.nn.attention.bias import CausalBias, causal_lower_right
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import _disable_current_modes

from tests.pretend.cuda import CudaTensor
from verl_vaopd.model import kernels

HALVES = (torch.bfloat16, torch.float16)
CALLS: Counter[str] = Counter()


def attend(q, k, v, scale, lower_right: bool | None):
    """q [.., H, L, D] and k, v [.., Hkv, S, D]; lower_right: causal from that corner, from the upper left, or None."""
    groups = q.shape[-3] // k.shape[-3]
    k, v = (x.repeat_interleave(groups, dim=-3).float() for x in (k, v))
    scores = q.float() @ k.transpose(-1, -2) * scale
    if lower_right is not None:
        queries, keys = q.shape[-2], k.shape[-2]
        seen = torch.ones(queries, keys, dtype=torch.bool, device=q.device).tril(keys - queries if lower_right else 0)
        scores = scores.masked_fill(~seen, -math.inf)
    return (scores.softmax(-1) @ v).to(q.dtype)


def varlen(name: str, q, k, v, q_bounds, k_bounds, longest_q, longest_k, scale):
    """Causal from the lower right, within each pair of segments; q [T, H, D], k, v [S, Hkv, D]."""
    CALLS[name] += 1
    assert all(isinstance(x, CudaTensor) for x in (q, k, v, q_bounds, k_bounds))
    assert q.dtype == k.dtype == v.dtype and q.dtype in HALVES, (q.dtype, k.dtype, v.dtype)
    assert all(x.stride(-1) == 1 and x.shape[-1] % 8 == 0 and x.shape[-1] <= 256 for x in (q, k, v))
    assert q.shape[1] % k.shape[1] == 0 and k.shape == v.shape
    assert q_bounds.dtype == k_bounds.dtype == torch.int32 and q_bounds.shape == k_bounds.shape
    assert q_bounds.is_contiguous() and k_bounds.is_contiguous()
    ends = [x.elem.tolist() for x in (q_bounds, k_bounds)]  # the kernel reads them on the device
    for at, (x, bounds, longest) in enumerate(((q, ends[0], longest_q), (k, ends[1], longest_k))):
        assert bounds[0] == 0 and bounds[-1] == len(x), (at, bounds, len(x))
        assert type(longest) is int and longest == max(b - a for a, b in pairwise(bounds))
    pieces = []
    for (a, b), (c, d) in zip(pairwise(ends[0]), pairwise(ends[1]), strict=True):
        one = (x.transpose(0, 1) for x in (q[a:b], k[c:d], v[c:d]))
        pieces.append(attend(*one, scale, lower_right=True).transpose(0, 1))
    return torch.cat(pieces)


def varlen_attn(q, k, v, cu_seq_q, cu_seq_k, max_q, max_k, *, scale=None, window_size=(-1, -1)):
    assert window_size == (-1, 0), "torch compares it with this tuple"
    return varlen("varlen", q, k, v, cu_seq_q, cu_seq_k, max_q, max_k, scale)


def flash_attn_varlen_func(q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, *, softmax_scale, causal):
    assert causal
    return varlen("flash", q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, softmax_scale)


class CudaAttention(TorchFunctionMode):
    """scaled_dot_product_attention, with and without a causal bias, as CUDA computes it."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if not (args and isinstance(args[0], CudaTensor)):
            return func(*args, **kwargs)
        if func is F.scaled_dot_product_attention:
            if isinstance(kwargs.get("attn_mask"), CausalBias):
                with self:
                    return CausalBias._dispatch(*args, **kwargs)
            return sdpa(*args, **kwargs)
        if func is torch.ops.aten._scaled_dot_product_flash_attention:
            CALLS["sdpa flash, lower right"] += 1
            q, k, v = args[:3]
            return (attend(q, k, v, kwargs["scale"], lower_right=kwargs["is_causal"]),)
        if func is torch.ops.aten._efficient_attention_forward:
            CALLS["sdpa efficient, lower right"] += 1
            q, k, v = (x.transpose(1, 2) for x in args)
            return (attend(q, k, v, kwargs["scale"], lower_right=kwargs["custom_mask_type"] == 2).transpose(1, 2),)
        return func(*args, **kwargs)


def lower_right_bias(*size) -> CausalBias:
    with _disable_current_modes():  # such a tensor cannot be made under a mode
        return causal_lower_right(*size)


def can_use_flash(params) -> bool:
    return params.query.dtype in HALVES and params.attn_mask is None


def can_use_efficient(params) -> bool:
    return params.query.shape[1] == params.key.shape[1]


def sdpa(q, k, v, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False):
    assert q.dtype == k.dtype == v.dtype and all(isinstance(x, CudaTensor) for x in (q, k, v))
    assert attn_mask is None, f"a mask of {list(attn_mask.shape)} on a GPU"
    alike = q.shape[1] == k.shape[1]
    assert alike or enable_gqa
    assert q.dtype in HALVES or alike, "the math kernel: all scores are held"
    CALLS[f"sdpa {'flash' if q.dtype in HALVES else 'efficient'}"] += 1
    return attend(q, k, v, scale or q.shape[-1] ** -0.5, lower_right=False if is_causal else None)


@contextlib.contextmanager
def gpu_kernels():
    bias = "torch.nn.attention.bias"
    with (
        mock.patch.object(kernels, "varlen_attn", varlen_attn),
        mock.patch.object(kernels, "causal_lower_right", lower_right_bias),
        mock.patch.dict(sys.modules, flash_attn=SimpleNamespace(flash_attn_varlen_func=flash_attn_varlen_func)),
        mock.patch(f"{bias}.can_use_flash_attention", can_use_flash),
        mock.patch(f"{bias}.can_use_efficient_attention", can_use_efficient),
        mock.patch(f"{bias}.SDPAParams", lambda *args: SimpleNamespace(query=args[0], key=args[1], attn_mask=args[3])),
        CudaAttention(),
    ):
        yield
