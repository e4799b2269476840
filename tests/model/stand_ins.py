"""What flash-attn and torch document for their varlen functions, on the CPU: causal masks are aligned to the lower
right."""

import contextlib
import sys
from itertools import pairwise
from types import SimpleNamespace
from unittest import mock

import torch
import torch.nn.functional as F

from verl_vaopd.model import kernels


def flash_attn_varlen_func(q, k, v, cu_q, cu_k, max_q, max_k, softmax_scale, causal):
    assert causal and max_q == cu_q.diff().max() and max_k == cu_k.diff().max()
    assert cu_q.dtype == cu_k.dtype == torch.int32
    out = []
    for (a, b), (c, d) in zip(pairwise(cu_q), pairwise(cu_k), strict=True):
        mask = torch.ones(b - a, d - c, dtype=torch.bool).tril(d - c - (b - a))
        one = (x.transpose(0, 1)[None] for x in (q[a:b], k[c:d], v[c:d]))
        out.append(F.scaled_dot_product_attention(*one, attn_mask=mask, scale=softmax_scale, enable_gqa=True))
    return torch.cat(out, dim=2)[0].transpose(0, 1)


def varlen_attn(q, k, v, cu_seq_q, cu_seq_k, max_q, max_k, *, scale=None, window_size=(-1, -1)):
    assert window_size == (-1, 0), "any other, a list too, is not causal"
    return flash_attn_varlen_func(q, k, v, cu_seq_q, cu_seq_k, max_q, max_k, scale, causal=True)


@contextlib.contextmanager
def varlen_kernels():
    """Both kernels, for code that calls them as on a GPU."""
    flash_attn = SimpleNamespace(flash_attn_varlen_func=flash_attn_varlen_func)
    with mock.patch.dict(sys.modules, flash_attn=flash_attn), mock.patch.object(kernels, "varlen_attn", varlen_attn):
        yield
