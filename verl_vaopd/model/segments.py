"""Which tokens of a packed sequence see which, and what kernels need to know of it."""

from functools import cached_property
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor


class Bounds(NamedTuple):
    """For varlen kernels; tensors on the device, int32 where kernels ask for it.

    roots: [roots + 1] where each begins and the last ends, longest_root: its tokens; queries, longest_query and keys,
    longest_key: of the branches; positions: where the branches' keys stand, each prefix before its branch's own tokens.
    """

    roots: Tensor
    longest_root: int
    queries: Tensor
    longest_query: int
    keys: Tensor
    longest_key: int
    positions: Tensor


class Segments:
    """Roots stand first, then branches. A root is causal within itself: a prompt with its first response. A branch, a
    further response, sees the prefix of a root (its prompt) and then itself, causally.

    No dataclass: FSDP2 builds the dataclasses among a layer's arguments anew, and what one layer made would be lost to
    the next.

    roots, branches: lengths, in order; prefixes: (start, length) in the sequence, one for each branch.
    group: the process group over whose n ranks the sequence is spread (Ulysses); rank r holds tokens r, r + n, ...,
    which also deals out the response tokens evenly. None: this rank holds them all.
    """

    def __init__(
        self,
        roots: list[int],
        branches: list[int],
        prefixes: list[tuple[int, int]],
        group: torch.distributed.ProcessGroup | None = None,
    ):
        self.roots, self.branches, self.prefixes, self.group = roots, branches, prefixes, group
        self._made: dict = {}  # when the first layer asks, for all of them

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

    def mask(self, length: int, prefix: int, device: torch.device) -> Tensor:
        """[length, prefix + length] of a branch: True where a key is seen."""
        if (length, prefix) not in self._made:
            self._made[length, prefix] = branch_mask(length, prefix, device)
        return self._made[length, prefix]

    def bounds(self, device: torch.device) -> Bounds:
        if "bounds" not in self._made:
            self._made["bounds"] = branch_bounds(self, device)
        return self._made["bounds"]


def branch_mask(length: int, prefix: int, device: torch.device) -> Tensor:
    return torch.ones(length, prefix + length, dtype=torch.bool, device=device).tril(prefix)


def branch_bounds(segments: Segments, device: torch.device) -> Bounds:
    """Made in host memory and copied without waiting for the device."""
    keys = [own + prefix for own, (_, prefix) in zip(segments.branches, segments.prefixes, strict=True)]
    parts = [span for own, prefix in segments.spans if prefix for span in (prefix, own)]
    positions = [torch.arange(span.start, span.stop) for span in parts] or [torch.arange(0)]

    def cumulated(lengths: list[int]) -> Tensor:
        return torch.tensor([0, *accumulate(lengths)], dtype=torch.int32).to(device, non_blocking=True)

    return Bounds(
        roots=cumulated(segments.roots),
        longest_root=max(segments.roots),
        queries=cumulated(segments.branches),
        longest_query=max(segments.branches, default=0),
        keys=cumulated(keys),
        longest_key=max(keys, default=0),
        positions=torch.cat(positions).to(device, non_blocking=True),
    )
