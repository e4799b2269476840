"""Causal attention over a packed sequence whose rows may share their prompt, whole or spread over ranks.

Siblings answer one prompt under one view, so its keys and values are computed once and serve every response: exact,
since under causal attention no prompt token sees a response. One layout, two kernels: sdpa, segment by segment, on any
device; flash-attn's varlen kernel on GPUs. Both carry gradients back into the shared prompt.
"""

from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import accumulate

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributed.nn.functional import all_to_all_single
from transformers import AttentionInterface

KERNELS = {"sdpa": "vaopd_sdpa", "flash_attention_2": "vaopd_flash"}  # attn_implementation -> name it is registered as


@dataclass
class Segments:
    """Which tokens of a packed sequence see which.

    Roots stand first, then branches. A root is causal within itself: a prompt with its first response. A branch, a
    further response, sees the prefix of a root (its prompt) and then itself, causally.

    roots, branches: lengths, in order; prefixes: (start, length) in the sequence, one for each branch.
    group: the process group over whose n ranks the sequence is spread (Ulysses); rank r holds tokens r, r + n, ...,
    which also deals out the response tokens evenly. None: this rank holds them all.
    """

    roots: list[int]
    branches: list[int]
    prefixes: list[tuple[int, int]]
    group: torch.distributed.ProcessGroup | None = None
    made: dict = field(default_factory=dict, repr=False)
    """Masks and indices, made when the first layer asks and used by all."""

    @property
    def ranks(self) -> int:
        return 1 if self.group is None else torch.distributed.get_world_size(self.group)

    @property
    def rank(self) -> int:
        return 0 if self.group is None else torch.distributed.get_rank(self.group)

    @cached_property
    def spans(self) -> list[tuple[slice, slice | None]]:
        """(own tokens, prefix or None) of every segment, in the order of the sequence."""
        ends = list(accumulate(self.roots + self.branches))
        own = [slice(end - n, end) for n, end in zip(self.roots + self.branches, ends, strict=True)]
        prefixes = [None] * len(self.roots) + [slice(start, start + n) for start, n in self.prefixes]
        return list(zip(own, prefixes, strict=True))

    def mask(self, length: int, prefix: int, device) -> Tensor:
        """[length, prefix + length] of a branch: True where a key is seen."""
        if (length, prefix) not in self.made:
            ones = torch.ones(length, prefix + length, dtype=torch.bool, device=device)
            self.made[length, prefix] = ones.tril(prefix)
        return self.made[length, prefix]

    def varlen(self, device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """For varlen kernels: bounds (int32) of the roots, of the branches' queries and of their keys; and where those
        keys stand, each branch's prefix before its own tokens."""
        if "varlen" not in self.made:
            lengths = self.roots, self.branches, self.branch_keys
            bounds = [torch.tensor([0, *accumulate(n)], dtype=torch.int32, device=device) for n in lengths]
            parts = [span for own, prefix in self.spans if prefix for span in (prefix, own)]
            keys = [position for span in parts for position in range(span.start, span.stop)]
            self.made["varlen"] = *bounds, torch.tensor(keys, dtype=torch.long, device=device)
        return self.made["varlen"]

    @property
    def branch_keys(self) -> list[int]:
        """Number of keys that each branch sees at its end."""
        return [own + prefix for own, (_, prefix) in zip(self.branches, self.prefixes, strict=True)]


def sdpa_segments(q: Tensor, k: Tensor, v: Tensor, segments: Segments, scale: float) -> Tensor:
    """q [1, H, T, D]; k, v [1, Hkv, T, D]. Returns [1, T, H, D]."""
    attend = partial(F.scaled_dot_product_attention, scale=scale, enable_gqa=q.shape[1] != k.shape[1])
    pieces = []
    for own, prefix in segments.spans:
        if prefix is None:
            pieces.append(attend(q[:, :, own], k[:, :, own], v[:, :, own], is_causal=True))
            continue
        keys, values = (torch.cat([x[:, :, prefix], x[:, :, own]], dim=2) for x in (k, v))
        mask = segments.mask(own.stop - own.start, prefix.stop - prefix.start, q.device)
        pieces.append(attend(q[:, :, own], keys, values, attn_mask=mask))
    return torch.cat(pieces, dim=2).transpose(1, 2)


def flash_segments(q: Tensor, k: Tensor, v: Tensor, segments: Segments, scale: float) -> Tensor:
    """As :func:`sdpa_segments`: one varlen call for the roots, one for the branches (causal from the lower right)."""
    from flash_attn import flash_attn_varlen_func

    q, k, v = (x[0].transpose(0, 1) for x in (q, k, v))  # [T, H, D]
    attend = partial(flash_attn_varlen_func, softmax_scale=scale, causal=True)
    root_bounds, q_bounds, k_bounds, keys = segments.varlen(q.device)
    roots, longest = sum(segments.roots), max(segments.roots)
    out = attend(q[:roots], k[:roots], v[:roots], root_bounds, root_bounds, longest, longest)
    if segments.branches:
        longest = max(segments.branches), max(segments.branch_keys)
        out = torch.cat([out, attend(q[roots:], k[keys], v[keys], q_bounds, k_bounds, *longest)])
    return out[None]


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


AttentionInterface.register(KERNELS["sdpa"], partial(_attention, sdpa_segments))
AttentionInterface.register(KERNELS["flash_attention_2"], partial(_attention, flash_segments))


def install_attention(language_model) -> None:
    """Let the layers of a Qwen3-VL text model attend by segments, with the kernel its config asks for.

    Raises:
        ValueError: the config asks for another ``attn_implementation`` than sdpa or flash_attention_2.
    """
    asked = language_model.config._attn_implementation
    if asked not in KERNELS:
        raise ValueError(
            f"attn_implementation={asked!r}: set {' or '.join(KERNELS)} in override_config of the model "
            "(actor_rollout_ref.model.override_config, vaopd.teacher.override_config)"
        )
    language_model.config._attn_implementation = KERNELS[asked]
