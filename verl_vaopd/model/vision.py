"""What the vision tower is given for the images of a packed sequence, made in host memory: no layer waits for the GPU.

Left to itself the tower reads the images' sizes back from the device, in every layer anew.
"""

import torch
from torch import Tensor

OF_TEXT = ("input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids")
"""What a processor returns for the text."""


class ImageInputs:
    """Processor output for the images of one prompt under one view.

    tensors: by the processor's names. ``pixel_values`` [patches, patch_dim], or [tiles, channels, height, width], and
    what the family has beside it (``image_grid_thw`` [images, 3], in patches before merging, in most).
    """

    def __init__(self, pixel_values: Tensor, image_grid_thw: Tensor | None = None, **others: Tensor):
        grid = {} if image_grid_thw is None else {"image_grid_thw": image_grid_thw}
        self.tensors = {"pixel_values": pixel_values, **grid, **others}

    @classmethod
    def of(cls, encoded) -> "ImageInputs":
        """What ``encoded``, a processor's output for one prompt, holds of its images; pixels in float32."""
        tensors = {name: value for name, value in encoded.items() if name not in OF_TEXT}
        return cls(**{**tensors, "pixel_values": tensors["pixel_values"].float()})

    @property
    def pixel_values(self) -> Tensor:
        return self.tensors["pixel_values"]

    @property
    def image_grid_thw(self) -> Tensor:
        return self.tensors["image_grid_thw"]


class VisionInputs:
    """The unique images of a sequence, on its device, and where their features go. ``family``: a ``PackedFamily``.

    pixel_values: of all of them; arguments: what else the tower's forward takes.
    at: [image tokens] positions in the sequence, or None: no image, the tower's pass over a blank one has no weight;
    features: [image tokens] which visual feature stands there. own_at, own_features: those that this rank holds, at
    positions among its own tokens.

    No dataclass: FSDP2 would cast the tower's arguments, as it casts a layer's other arguments.
    """

    def __init__(self, images: list[ImageInputs], at: Tensor, features: Tensor, family, rank: int, ranks: int):
        blank = not images
        images = images or [family.blank()]
        self.pixel_values = torch.cat([each.pixel_values for each in images])
        self.moved, self.kept = family.arguments(images)
        own = at % ranks == rank
        self.at, self.features = (None, None) if blank else (at, features)
        self.own_at, self.own_features = (None, None) if blank else (at[own] // ranks, features[own])

    @property
    def arguments(self) -> dict[str, Tensor]:
        return self.moved | self.kept

    def to(self, device) -> "VisionInputs":
        """Moves itself, without waiting for the device."""
        self.moved = {name: value.to(device, non_blocking=True) for name, value in self.moved.items()}
        for name in ("pixel_values", "at", "features", "own_at", "own_features"):
            value = getattr(self, name)
            setattr(self, name, None if value is None else value.to(device, non_blocking=True))
        return self
