"""Attention by segments against one plain attention a rollout, by every kernel."""

import sys
from importlib.util import find_spec
from unittest import mock

import pytest
import torch
from torch.nn.attention.varlen import varlen_attn as real_varlen_attn

from tests.model.stand_ins import varlen_kernels
from verl_vaopd.model import kernels
from verl_vaopd.model.kernels import KERNELS
from verl_vaopd.model.segments import Segments

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


def inputs(segments: Segments, grad: bool = False):
    torch.manual_seed(0)
    tokens = sum(segments.roots + segments.branches)
    shapes = ((1, HEADS, tokens, WIDTH), (1, KV_HEADS, tokens, WIDTH), (1, KV_HEADS, tokens, WIDTH))
    return [torch.randn(shape, dtype=torch.float64, requires_grad=grad) for shape in shapes]


@pytest.fixture(autouse=True)
def stand_ins():
    with varlen_kernels():  # the kernels themselves run on GPUs only; this checks which tokens they are given
        yield


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("name", CASES)
def test_each_token_sees_its_prefix_and_itself(kernel, name):
    q, k, v = inputs(CASES[name])
    assert torch.allclose(KERNELS[kernel](q, k, v, CASES[name], 0.3), plain(q, k, v, CASES[name], 0.3), atol=1e-12)


@pytest.mark.parametrize("kernel", KERNELS)
def test_gradients_of_siblings_meet_in_the_shared_prompt(kernel):
    segments = CASES["siblings"]
    grads = []
    for attend in (KERNELS[kernel], plain):
        tensors = inputs(segments, grad=True)
        attend(*tensors, segments, 0.3).square().sum().backward()
        grads.append([x.grad for x in tensors])
    for got, expected in zip(*grads, strict=True):
        assert torch.allclose(got, expected, atol=1e-12)


def test_bounds_by_hand():
    bounds = CASES["siblings"].bounds(torch.device("cpu"))
    assert bounds.roots.tolist() == [0, 7, 13] and bounds.longest_root == 7
    assert bounds.queries.tolist() == [0, 4, 5, 7] and bounds.longest_query == 4
    # Keys: 3 + 4, 3 + 1 and 5 + 2. Branches stand at 13, 17 and 18, their prompts at 0, 0 and 7.
    assert bounds.keys.tolist() == [0, 7, 11, 18] and bounds.longest_key == 7
    assert bounds.positions.tolist() == [0, 1, 2, 13, 14, 15, 16, 0, 1, 2, 17, 7, 8, 9, 10, 11, 18, 19]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("name", CASES)
def test_the_kernels_themselves(kernel, name):
    if kernel == "flash_attention_2" and find_spec("flash_attn") is None:
        pytest.skip("needs flash-attn")
    shapes = [x.to("cuda", torch.bfloat16).requires_grad_() for x in inputs(CASES[name])]
    exact = [x.detach().cpu().double().requires_grad_() for x in shapes]
    outs = []
    with mock.patch.object(kernels, "varlen_attn", real_varlen_attn), mock.patch.dict(sys.modules):
        sys.modules.pop("flash_attn", None)
        for tensors, attend in ((shapes, KERNELS[kernel]), (exact, plain)):
            outs.append(attend(*tensors, CASES[name], 0.3))
            outs[-1].square().sum().backward()
    assert (outs[0].cpu().double() - outs[1]).abs().max() < 0.02
    for got, wanted in zip(shapes, exact, strict=True):
        assert (got.grad.cpu().double() - wanted.grad).norm() < 0.02 * wanted.grad.norm()
