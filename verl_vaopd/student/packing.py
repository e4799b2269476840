"""From rollouts and images to one forward: packed (padding-free) or padded rows, each image encoded once.

Legend: R rows (a rollout under one view), T tokens of all rows, F visual features of all unique images, M response
tokens. Teacher and student share this file, so they cannot disagree on positions or images.
"""

from dataclasses import dataclass

import torch


@dataclass
class ImageInputs:
    """Processor output for the images of one prompt under one view.

    pixel_values: [patches, patch_dim]; image_grid_thw: [images, 3], in patches before merging.
    """

    pixel_values: torch.Tensor
    image_grid_thw: torch.Tensor


@dataclass
class Row:
    """One sequence to run: token ids [T], how many of its last tokens are the response, its images (None: text-only).

    Rows that hold the *same* ImageInputs object share one pass of the vision tower.
    """

    input_ids: torch.Tensor
    response_length: int
    images: ImageInputs | None


@dataclass
class Layout:
    """What this package must know of a model to lay out its inputs (all from its config)."""

    image_token_id: int
    placeholder_ids: list[int]
    spatial_merge_size: int

    @classmethod
    def of(cls, config) -> "Layout":
        return cls(
            image_token_id=config.image_token_id,
            placeholder_ids=[config.image_token_id, config.video_token_id],
            spatial_merge_size=config.vision_config.spatial_merge_size,
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
    merge = layout.spatial_merge_size
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
    """Inputs of :func:`verl_vaopd.student.forward.run_on_response_rows`, on one device.

    model_inputs: keyword arguments of the forward; response_lengths: [R] of Python ints, in row order, whose sum is M;
    response_ids: [M].
    """

    model_inputs: dict[str, torch.Tensor | None]
    response_lengths: list[int]
    response_ids: torch.Tensor


def collate(rows: list[Row], layout: Layout, device, padded: bool = False) -> Batch:
    """Lay rows out for one forward.

    Packed: [1, T] without a mask; the text positions restart at 0 for each row, which is how transformers keeps rows
    apart (a block-diagonal mask for sdpa, cu_seqlens for flash attention). Padded: [R, longest], right padded.

    Raises:
        ValueError: no row, a row whose response is empty or fills it, or image tokens and images that do not match.
    """
    if not rows:
        raise ValueError("a batch needs at least one row")
    lengths = [len(row.input_ids) for row in rows]
    positions, feature_index, unique, offsets, features = [], [], {}, [], 0
    for index, row in enumerate(rows):
        if not 0 < row.response_length < lengths[index]:
            raise ValueError(f"row {index} has {lengths[index]} tokens and a response of {row.response_length}")
        grid = row.images.image_grid_thw if row.images is not None else None
        positions.append(torch.cat([torch.arange(lengths[index])[None], mrope_positions(row.input_ids, grid, layout)]))
        if row.images is not None:
            count = int((grid.prod(-1) // layout.spatial_merge_size**2).sum())
            if id(row.images) not in unique:
                unique[id(row.images)] = (features, row.images)
                features += count
            first = unique[id(row.images)][0]
            feature_index.append(torch.arange(first, first + count))

    if padded:
        width = max(lengths)
        starts = [index * width for index in range(len(rows))]
        input_ids = torch.zeros(len(rows), width, dtype=torch.long)
        position_ids = torch.zeros(4, len(rows), width, dtype=torch.long)
        attention_mask = torch.zeros(len(rows), width, dtype=torch.long)
        for index, row in enumerate(rows):
            input_ids[index, : lengths[index]] = row.input_ids
            position_ids[:, index, : lengths[index]] = positions[index]
            attention_mask[index, : lengths[index]] = 1
    else:
        starts = [sum(lengths[:index]) for index in range(len(rows))]
        input_ids = torch.cat([row.input_ids for row in rows])[None]
        position_ids = torch.cat(positions, dim=1)[:, None]
        attention_mask = None

    # The hidden state that predicts response token t stands one position before it.
    for start, length, row in zip(starts, lengths, rows, strict=True):
        offsets.append(torch.arange(start + length - row.response_length - 1, start + length - 1))
    images = [images for _, images in unique.values()]
    model_inputs = {
        "input_ids": input_ids,
        "position_ids": position_ids,
        "attention_mask": attention_mask,
        "pixel_values": torch.cat([i.pixel_values for i in images]) if images else None,
        "image_grid_thw": torch.cat([i.image_grid_thw for i in images]) if images else None,
        "feature_index": torch.cat(feature_index) if images else None,
        "row_index": torch.cat(offsets),
    }
    return Batch(
        model_inputs={k: v.to(device) if v is not None else None for k, v in model_inputs.items()},
        response_lengths=[row.response_length for row in rows],
        response_ids=torch.cat([row.input_ids[-row.response_length :] for row in rows]).to(device),
    )
