"""Families whose images are grids of patches, merged into tokens: Qwen-VL and GLM-4V."""

import torch
from torch import Tensor
from transformers.vision_utils import get_vision_cu_seqlens, get_vision_position_ids

from verl_vaopd.model.families.packed_family import PackedFamily
from verl_vaopd.model.vision import ImageInputs


class PatchGridFamily(PackedFamily):
    """Their towers take ``image_grid_thw`` and their text models three axes of positions (M-RoPE)."""

    axes = 3

    def __init__(self, config):
        super().__init__(config)
        self.placeholder_ids.append(config.video_token_id)
        vision = config.vision_config
        self.merge: int = vision.spatial_merge_size  # patches on a side of what becomes one token
        self.patch_dim: int = vision.in_channels * vision.temporal_patch_size * vision.patch_size**2

    def tokens(self, images: ImageInputs) -> int:
        return int((images.image_grid_thw.prod(-1) // self.merge**2).sum())

    def blank(self) -> ImageInputs:
        return ImageInputs(torch.zeros(self.merge**2, self.patch_dim), torch.tensor([[1, self.merge, self.merge]]))

    def positions(self, input_ids: Tensor, images: ImageInputs | None) -> Tensor:
        return mrope_positions(
            input_ids, None if images is None else images.image_grid_thw, self.image_token_id, self.merge
        )

    def arguments(self, images: list[ImageInputs]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The grid and the sequence lengths stay in host memory: the tower splits its patches by them."""
        grid = torch.cat([each.image_grid_thw for each in images])
        moved = {"position_ids": get_vision_position_ids(grid, self.merge)}
        return moved, {"grid_thw": grid, "cu_seqlens": get_vision_cu_seqlens(grid)}

    def see(self, model, pixel_values: Tensor, arguments: dict[str, Tensor]) -> tuple[Tensor, list[Tensor]]:
        return model.visual(pixel_values, **arguments, return_dict=True).pooler_output, []


def mrope_positions(input_ids: Tensor, image_grid_thw: Tensor | None, image_token_id: int, merge: int) -> Tensor:
    """Multimodal rotary positions of one sequence of text and still images.

    Text advances all three axes by one; an image occupies its merged grid (t, h, w) and then advances them by the
    larger side of that grid. Equal to ``get_rope_index`` of the models, without a Python step per token.

    Args:
        input_ids: [T]; image_grid_thw: [images, 3] in order of appearance, or None.
    Returns:
        [3, T] int64: temporal, height, width.
    Raises:
        ValueError: image tokens and grids do not match.
    """
    is_image = input_ids == image_token_id
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
