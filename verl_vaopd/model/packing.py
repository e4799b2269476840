"""From rollouts and images to one packed forward: each image is encoded once, each prompt runs once.

Legend: R rows (a rollout under one view), T tokens of the sequence, M response tokens. Teacher and student share this
file, so they cannot disagree on positions or images.
"""

from dataclasses import dataclass

import torch

from verl_vaopd.model.families import PackedFamily
from verl_vaopd.model.row import Row
from verl_vaopd.model.segments import Segments
from verl_vaopd.model.vision import VisionInputs


@dataclass
class Batch:
    """Inputs of :func:`verl_vaopd.model.forward.run_on_response_rows`, on one device.

    model_inputs: keyword arguments of the forward; response_lengths: [R] of Python ints, in row order, whose sum is M;
    response_ids: [M]; kept: which of the M response tokens this rank computes, or None for all.
    """

    model_inputs: dict
    response_lengths: list[int]
    response_ids: torch.Tensor
    kept: torch.Tensor | None

    def keep(self, values: torch.Tensor) -> torch.Tensor:
        """This rank's share of something given for all M response tokens."""
        return values if self.kept is None else values[self.kept]


def siblings(rows: list[Row]) -> list[list[int]]:
    """Indices of the rows that have prompt and view in common, in order of first appearance.

    Rows without images and with equal prompts are siblings as well; equal prompts with other images are not.
    """
    groups: dict[tuple, list[int]] = {}
    for index, row in enumerate(rows):
        prompt = row.input_ids[: len(row.input_ids) - row.response_length]
        groups.setdefault((id(row.images), prompt.numpy().tobytes()), []).append(index)
    return list(groups.values())


def check_lengths(rows: list[Row]) -> None:
    """Raises ValueError: no row, or a row whose response is empty or fills it."""
    if not rows:
        raise ValueError("a batch needs at least one row")
    for index, row in enumerate(rows):
        if not 0 < row.response_length < len(row.input_ids):
            raise ValueError(f"row {index} has {len(row.input_ids)} tokens and a response of {row.response_length}")


def collate(rows: list[Row], family: PackedFamily, device, group=None) -> Batch:
    """Lay rows out as one packed sequence [1, T] without padding; siblings share their prompt and its images.

    Args:
        group: spread the sequence over the ranks of this process group (see :class:`Segments`).
    Raises:
        ValueError: no row, a row whose response is empty or fills it, or image tokens and images that do not match.
    """
    check_lengths(rows)
    # Roots: prompts with their first response.
    groups = siblings(rows)
    root_of, tokens, positions, feature_index, unique, features = {}, [], [], [], {}, 0
    predicts: list[list[torch.Tensor]] = [[] for _ in rows]  # where the hidden states stand that predict the response
    segments = Segments([], [], [], group)
    start = 0
    for first, *others in groups:
        row = rows[first]
        length = len(row.input_ids)
        tokens.append(row.input_ids)
        positions.append(family.positions(row.input_ids, row.images))
        segments.roots.append(length)
        end = start + length - row.response_length  # of the prompt
        for index in (first, *others):
            root_of[index] = (start, end)
            predicts[index].append(torch.tensor([end - 1]))
        predicts[first].append(torch.arange(end, start + length - 1))
        start += length
        if row.images is not None:
            count = family.tokens(row.images)
            if id(row.images) not in unique:
                unique[id(row.images)] = (features, row.images)
                features += count
            offset = unique[id(row.images)][0]
            feature_index.append(torch.arange(offset, offset + count))

    # Then padding to a multiple of the ranks, if any: a root that nothing reads.
    branches = [index for _, *others in groups for index in others]
    if padding := -(start + sum(rows[index].response_length for index in branches)) % segments.ranks:
        tokens.append(torch.zeros(padding, dtype=torch.long))
        positions.append(torch.arange(padding).expand(family.axes, -1))
        segments.roots.append(padding)
        start += padding

    # Branches: further responses.
    for index in branches:
        row = rows[index]
        root_start, root_end = root_of[index]
        tokens.append(row.input_ids[-row.response_length :])
        positions.append(family.positions(row.input_ids, row.images)[:, -row.response_length :])
        segments.branches.append(row.response_length)
        segments.prefixes.append((root_start, root_end - root_start))
        predicts[index].append(torch.arange(start, start + row.response_length - 1))
        start += row.response_length

    row_index = torch.cat([piece for pieces in predicts for piece in pieces])
    kept = None
    if segments.ranks > 1:
        kept = (row_index % segments.ranks == segments.rank).nonzero().squeeze(1)
        row_index = row_index[kept] // segments.ranks
        kept = kept.to(device, non_blocking=True)
    input_ids = torch.cat(tokens)
    at = (input_ids == family.image_token_id).nonzero().squeeze(1)
    images = [images for _, images in unique.values()]
    features = torch.cat(feature_index) if images else at
    vision = VisionInputs(images, at, features, family, segments.rank, segments.ranks).to(device)
    position_ids = torch.cat(positions, dim=1)[:, segments.rank :: segments.ranks]
    tensors = {
        "input_ids": input_ids[None],
        "position_ids": position_ids if family.axes == 1 else position_ids[:, None],
        "row_index": row_index,
    }
    moved = {name: tensor.to(device, non_blocking=True) for name, tensor in tensors.items()}
    return Batch(
        model_inputs=moved | {"vision": vision, "segments": segments},
        response_lengths=[row.response_length for row in rows],
        response_ids=torch.cat([row.input_ids[-row.response_length :] for row in rows]).to(device, non_blocking=True),
        kept=kept,
    )
