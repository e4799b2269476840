"""Attention by segments against one plain attention a rollout; the kernel's inputs for flash-attn's varlen form."""

import sys
from importlib.util import find_spec
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from verl_vaopd.model.attention import Segments, flash_segments, install_attention, sdpa_segments

HEADS, KV_HEADS, WIDTH = 4, 2, 8
CASES = {
    "one root": Segments([5], [], []),
    "roots": Segments([5, 1, 7], [], []),
    # Root 0 is a prompt of 3 with a response of 4, root 1 a prompt of 5 with one of 1.
    "siblings": Segments([7, 6], [4, 1, 2], [(0, 3), (0, 3), (7, 5)]),
}


def plain(q, k, v, segments: Segments, scale: float) -> torch.Tensor:
    """The definition: each token sees its prefix, then its own segment up to itself. [1, T, H, D]."""
    group = q.shape[1] // k.shape[1]
    k, v = (x.repeat_interleave(group, dim=1) for x in (k, v))
    out = torch.empty_like(q)
    lengths = segments.roots + segments.branches
    prefixes = [(0, 0)] * len(segments.roots) + segments.prefixes
    start = 0
    for length, (prefix, prefix_length) in zip(lengths, prefixes, strict=True):
        for t in range(start, start + length):
            seen = [*range(prefix, prefix + prefix_length), *range(start, t + 1)]
            weights = (q[0, :, t, None] * k[0, :, seen]).sum(-1).mul(scale).softmax(-1)
            out[0, :, t] = (weights[..., None] * v[0, :, seen]).sum(1)
        start += length
    return out.transpose(1, 2)


def lower_right_causal_varlen(q, k, v, cu_q, cu_k, max_q, max_k, softmax_scale, causal):
    """What flash-attn documents for its varlen function with causal=True: the mask is aligned to the lower right."""
    assert causal and max_q == cu_q.diff().max() and max_k == cu_k.diff().max()
    assert cu_q.dtype == cu_k.dtype == torch.int32
    out = []
    for (a, b), (c, d) in zip(pairwise(cu_q), pairwise(cu_k), strict=True):
        mask = torch.ones(b - a, d - c, dtype=torch.bool).tril(d - c - (b - a))
        one = (x.transpose(0, 1)[None] for x in (q[a:b], k[c:d], v[c:d]))
        out.append(F.scaled_dot_product_attention(*one, attn_mask=mask, scale=softmax_scale, enable_gqa=True))
    return torch.cat(out, dim=2)[0].transpose(0, 1)


def inputs(segments: Segments, grad: bool = False):
    torch.manual_seed(0)
    tokens = sum(segments.roots + segments.branches)
    shapes = ((1, HEADS, tokens, WIDTH), (1, KV_HEADS, tokens, WIDTH), (1, KV_HEADS, tokens, WIDTH))
    return [torch.randn(shape, dtype=torch.float64, requires_grad=grad) for shape in shapes]


@pytest.fixture
def flash(monkeypatch):
    # The kernel itself runs on GPUs only; this checks which tokens it is given.
    monkeypatch.setitem(sys.modules, "flash_attn", SimpleNamespace(flash_attn_varlen_func=lower_right_causal_varlen))


@pytest.mark.parametrize("kernel", [sdpa_segments, flash_segments])
@pytest.mark.parametrize("name", CASES)
def test_each_token_sees_its_prefix_and_itself(flash, kernel, name):
    q, k, v = inputs(CASES[name])
    assert torch.allclose(kernel(q, k, v, CASES[name], 0.3), plain(q, k, v, CASES[name], 0.3), atol=1e-12)


@pytest.mark.parametrize("kernel", [sdpa_segments, flash_segments])
def test_gradients_of_siblings_meet_in_the_shared_prompt(flash, kernel):
    segments = CASES["siblings"]
    grads = []
    for attend in (kernel, plain):
        tensors = inputs(segments, grad=True)
        attend(*tensors, segments, 0.3).square().sum().backward()
        grads.append([x.grad for x in tensors])
    for got, expected in zip(*grads, strict=True):
        assert torch.allclose(got, expected, atol=1e-12)


@pytest.mark.skipif(not torch.cuda.is_available() or find_spec("flash_attn") is None, reason="needs flash-attn, a GPU")
@pytest.mark.parametrize("name", CASES)
def test_flash_attn_itself(name):
    q, k, v = (x.to("cuda", torch.bfloat16) for x in inputs(CASES[name]))
    expected = sdpa_segments(q.double(), k.double(), v.double(), CASES[name], 0.3)
    assert (flash_segments(q, k, v, CASES[name], 0.3) - expected).abs().max() < 0.02


def test_other_kernels_are_refused_by_name():
    model = SimpleNamespace(config=SimpleNamespace(_attn_implementation="eager"))
    with pytest.raises(ValueError, match="'eager': set sdpa or flash_attention_2"):
        install_attention(model)
