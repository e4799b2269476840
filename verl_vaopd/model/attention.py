"""Causal attention over a packed sequence whose rows may share their prompt, whole or spread over ranks.

Siblings answer one prompt under one view, so its keys and values are computed once and serve every response: exact,
since under causal attention no prompt token sees a response.
"""

from functools import partial

import torch
from torch import Tensor
from torch.distributed.nn.functional import all_to_all_single
from transformers import AttentionInterface

from verl_vaopd.model.kernels import KERNELS
from verl_vaopd.model.segments import Segments

# As transformers knows the kernels. Without "flash": it takes such a name for a package to load, and refuses to build
# the model that a checkpoint is exported from.
NAMES = {"sdpa": "vaopd_sdpa", "varlen": "vaopd_varlen", "flash_attention_2": "vaopd_fa2"}


def gather_tokens(x: Tensor, group) -> Tensor:
    """[1, H, T / n, D], this rank's tokens, to [1, H / n, T, D], this rank's heads; in the order of the sequence."""
    n = torch.distributed.get_world_size(group)
    _, heads, tokens, width = x.shape
    sent = x.reshape(n, heads // n, tokens, width).contiguous()
    received = all_to_all_single(torch.empty_like(sent), sent, group=group)  # [source rank, H / n, T / n, D]
    return received.permute(1, 2, 0, 3).reshape(1, heads // n, n * tokens, width)


def gather_heads(x: Tensor, group) -> Tensor:
    """[1, T, H / n, D] back to [1, T / n, H, D]."""
    n = torch.distributed.get_world_size(group)
    _, tokens, heads, width = x.shape
    sent = x.reshape(tokens // n, n, heads, width).transpose(0, 1).contiguous()
    received = all_to_all_single(torch.empty_like(sent), sent, group=group)  # [head group, T / n, H / n, D]
    return received.transpose(0, 1).reshape(1, tokens // n, n * heads, width)


def _attention(kernel, module, query, key, value, attention_mask, *, scaling, segments: Segments, **_):
    """What transformers calls in a layer; ``segments`` comes with the forward's arguments."""
    if segments.group is None:
        return kernel(query, key, value, segments, scaling), None
    query, key, value = (gather_tokens(x, segments.group) for x in (query, key, value))
    return gather_heads(kernel(query, key, value, segments, scaling), segments.group), None


for _name, _kernel in KERNELS.items():
    AttentionInterface.register(NAMES[_name], partial(_attention, _kernel))


def install_attention(language_model, kernel: str) -> None:
    """Let the layers of a Qwen3-VL text model attend by segments, with a kernel of ``KERNELS``.

    The vision tower keeps what it was loaded with (sdpa): transformers calls it image by image, without a mask.
    """
    language_model.config._attn_implementation = NAMES[kernel]
