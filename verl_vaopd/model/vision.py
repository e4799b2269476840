"""What the vision tower is given for the images of a packed sequence, made in host memory: no layer waits for the GPU.

Left to itself the tower reads the images' sizes back from the device, in every layer anew.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers.vision_utils import (
    get_vision_bilinear_indices_and_weights,
    get_vision_cu_seqlens,
    get_vision_position_ids,
)


@dataclass
class ImageInputs:
    """Processor output for the images of one prompt under one view.

    pixel_values: [patches, patch_dim]; image_grid_thw: [images, 3], in patches before merging.
    """

    pixel_values: Tensor
    image_grid_thw: Tensor


@dataclass
class Tower:
    """What this package must know of a vision tower (all from its config)."""

    merge: int
    """Patches on a side of what becomes one token."""
    positions_per_side: int
    """Of the grid of learned positions."""
    patch_dim: int

    @classmethod
    def of(cls, config) -> "Tower":
        patch_dim = config.in_channels * config.temporal_patch_size * config.patch_size**2
        return cls(config.spatial_merge_size, int(config.num_position_embeddings**0.5), patch_dim)

    def tokens(self, images: ImageInputs) -> int:
        """Image tokens that ``images`` become."""
        return int((images.image_grid_thw.prod(-1) // self.merge**2).sum())

    def blank(self) -> ImageInputs:
        """The smallest image: one token."""
        return ImageInputs(torch.zeros(self.merge**2, self.patch_dim), torch.tensor([[1, self.merge, self.merge]]))


class VisionInputs:
    """The unique images of a sequence, on its device, and where their features go.

    pixel_values: [patches, patch_dim]; arguments: what else the tower's forward takes.
    at: [image tokens] positions in the sequence, or None: no image, the tower's pass over a blank one has no weight;
    features: [image tokens] which visual feature stands there. own_at, own_features: those that this rank holds, at
    positions among its own tokens.

    No dataclass: FSDP2 would cast the interpolation weights, as it casts a layer's other arguments.
    """

    def __init__(self, images: list[ImageInputs], at: Tensor, features: Tensor, tower: Tower, rank: int, ranks: int):
        blank = not images
        images = images or [tower.blank()]
        grid = torch.cat([each.image_grid_thw for each in images])
        indices, weights = get_vision_bilinear_indices_and_weights(grid, tower.positions_per_side, tower.merge)
        self.pixel_values = torch.cat([each.pixel_values for each in images])
        self.arguments = {
            "grid_thw": grid,  # stays in host memory, as the next: the tower splits its patches by them
            "cu_seqlens": get_vision_cu_seqlens(grid),
            "position_ids": get_vision_position_ids(grid, tower.merge),
            "bilinear_indices": indices,
            "bilinear_weights": weights,
        }
        own = at % ranks == rank
        self.at, self.features = (None, None) if blank else (at, features)
        self.own_at, self.own_features = (None, None) if blank else (at[own] // ranks, features[own])

    def to(self, device) -> "VisionInputs":
        """Moves itself, without waiting for the device."""
        for name in ("position_ids", "bilinear_indices", "bilinear_weights"):
            self.arguments[name] = self.arguments[name].to(device, non_blocking=True)
        for name in ("pixel_values", "at", "features", "own_at", "own_features"):
            value = getattr(self, name)
            setattr(self, name, None if value is None else value.to(device, non_blocking=True))
        return self
