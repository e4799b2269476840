"""From rollouts and images to one packed forward: each image is encoded once, each prompt runs once.

Legend: R rows (a rollout under one view), T tokens of the sequence, M response tokens. Teacher and student share this
file, so they cannot disagree on positions or images.
"""

from dataclasses import dataclass

import torch

from verl_vaopd.model.segments import Segments
from verl_vaopd.model.vision import ImageInputs, Tower, VisionInputs


@dataclass
class Row:
    """One sequence to run: token ids [T], how many of its last tokens are the response, its images (None: text-only).

    Rows that hold the *same* ImageInputs object share one pass of the vision tower, and, where their prompts are equal
    too, one pass of the prompt.
    """

    input_ids: torch.Tensor
    response_length: int
    images: ImageInputs | None


@dataclass
class Layout:
    """What this package must know of a model to lay out its inputs (all from its config)."""

    image_token_id: int
    placeholder_ids: list[int]
    tower: Tower

    @classmethod
    def of(cls, config) -> "Layout":
        return cls(
            image_token_id=config.image_token_id,
            placeholder_ids=[config.image_token_id, config.video_token_id],
            tower=Tower.of(config.vision_config),
        )


def mrope_positions(input_ids: torch.Tensor, image_grid_thw: torch.Tensor | None, layout: Layout) -> torch.Tensor:
    """Multimodal rotary positions of one sequence of text and still images (Qwen3-VL).

    Text advances all three axes by one; an image occupies its merged grid (t, h, w) and then advances them by the
    larger side of that grid. Equal to ``Qwen3VLModel.get_rope_index``, without a Python step per token.

    Args:
        input_ids: [T]; image_grid_thw: [images, 3] in order of appearance, or None.
    Returns:
        [3, T] int64: temporal, height, width.
    Raises:
        ValueError: image tokens and grids do not match.
    """
    merge = layout.tower.merge
    is_image = input_ids == layout.image_token_id
    if image_grid_thw is None:
        if is_image.any():
            raise ValueError("the sequence has image tokens but its row has no image")
        return torch.arange(len(input_ids)).expand(3, -1).clone()
    where = is_image.nonzero().squeeze(1).tolist()
    pieces, position, start, taken = [], 0, 0, 0
    for t, h, w in image_grid_thw.tolist():
        h, w = h // merge, w // merge
        if taken + t * h * w > len(where):
            raise ValueError(f"the sequence has {len(where)} image tokens, its image grids ask for more")
        first = where[taken]
        pieces.append(torch.arange(position, position + first - start).expand(3, -1))
        position += first - start
        grid = torch.stack(torch.meshgrid(torch.arange(t), torch.arange(h), torch.arange(w), indexing="ij")).reshape(
            3, -1
        )
        pieces.append(grid + position)
        position += max(h, w)
        start, taken = first + t * h * w, taken + t * h * w
    if taken != len(where):
        raise ValueError(f"the sequence has {len(where)} image tokens, its image grids account for {taken}")
    pieces.append(torch.arange(position, position + len(input_ids) - start).expand(3, -1))
    return torch.cat(pieces, dim=1)


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


def collate(rows: list[Row], layout: Layout, device, group=None) -> Batch:
    """Lay rows out as one packed sequence [1, T] without padding; siblings share their prompt and its images.

    Args:
        group: spread the sequence over the ranks of this process group (see :class:`Segments`).
    Raises:
        ValueError: no row, a row whose response is empty or fills it, or image tokens and images that do not match.
    """
    if not rows:
        raise ValueError("a batch needs at least one row")
    for index, row in enumerate(rows):
        if not 0 < row.response_length < len(row.input_ids):
            raise ValueError(f"row {index} has {len(row.input_ids)} tokens and a response of {row.response_length}")

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
        positions.append(row_positions(row, layout))
        segments.roots.append(length)
        end = start + length - row.response_length  # of the prompt
        for index in (first, *others):
            root_of[index] = (start, end)
            predicts[index].append(torch.tensor([end - 1]))
        predicts[first].append(torch.arange(end, start + length - 1))
        start += length
        if row.images is not None:
            count = layout.tower.tokens(row.images)
            if id(row.images) not in unique:
                unique[id(row.images)] = (features, row.images)
                features += count
            offset = unique[id(row.images)][0]
            feature_index.append(torch.arange(offset, offset + count))

    # Then padding to a multiple of the ranks, if any: a root that nothing reads.
    branches = [index for _, *others in groups for index in others]
    if padding := -(start + sum(rows[index].response_length for index in branches)) % segments.ranks:
        tokens.append(torch.zeros(padding, dtype=torch.long))
        positions.append(torch.arange(padding).expand(3, -1))
        segments.roots.append(padding)
        start += padding

    # Branches: further responses.
    for index in branches:
        row = rows[index]
        root_start, root_end = root_of[index]
        tokens.append(row.input_ids[-row.response_length :])
        positions.append(row_positions(row, layout)[:, -row.response_length :])
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
    at = (input_ids == layout.image_token_id).nonzero().squeeze(1)
    images = [images for _, images in unique.values()]
    features = torch.cat(feature_index) if images else at
    vision = VisionInputs(images, at, features, layout.tower, segments.rank, segments.ranks).to(device)
    tensors = {
        "input_ids": input_ids[None],
        "position_ids": torch.cat(positions, dim=1)[:, None, segments.rank :: segments.ranks],
        "row_index": row_index,
    }
    moved = {name: tensor.to(device, non_blocking=True) for name, tensor in tensors.items()}
    return Batch(
        model_inputs=moved | {"vision": vision, "segments": segments},
        response_lengths=[row.response_length for row in rows],
        response_ids=torch.cat([row.input_ids[-row.response_length :] for row in rows]).to(device, non_blocking=True),
        kept=kept,
    )


def row_positions(row: Row, layout: Layout) -> torch.Tensor:
    """[3, T]: :func:`mrope_positions` of a row."""
    return mrope_positions(row.input_ids, row.images.image_grid_thw if row.images is not None else None, layout)
