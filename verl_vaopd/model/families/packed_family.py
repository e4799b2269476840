"""A family that the packed layout fits: what it must know beside what :class:`Family` says."""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from verl_vaopd.model.families.family import Family
from verl_vaopd.model.row import Row
from verl_vaopd.model.vision import ImageInputs


class PackedFamily(Family, ABC):
    """Everything here runs in host memory but :meth:`see`.

    Class attribute: ``axes`` of a position: 3 (temporal, height, width), or 1.
    """

    axes: ClassVar[int] = 1

    @property
    def layouts(self) -> tuple[str, ...]:
        """Siblings that share a prompt need attention over all that stands before a token."""
        kinds = getattr(self.config.text_config, "layer_types", None)  # of configs with one kind of layer: absent
        return ("packed", "padded") if set(kinds or ["full_attention"]) == {"full_attention"} else ("padded",)

    @abstractmethod
    def tokens(self, images: ImageInputs) -> int:
        """Image tokens that ``images`` become."""

    @abstractmethod
    def blank(self) -> ImageInputs:
        """The smallest image: what the tower sees where a micro-batch has none."""

    def positions(self, input_ids: Tensor, images: ImageInputs | None) -> Tensor:
        """[axes, T] int64: rotary positions of one sequence.

        Raises:
            ValueError: its image tokens and images do not match.
        """
        placed, given = int((input_ids == self.image_token_id).sum()), 0 if images is None else self.tokens(images)
        if placed != given:
            raise ValueError(f"the sequence has {placed} image tokens, its images make {given}")
        return torch.arange(len(input_ids))[None]

    def arguments(self, images: list[ImageInputs]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """What the tower is given beside pixels: tensors that go to the device, and those that stay in host memory."""
        return {}, {}

    @abstractmethod
    def see(self, model, pixel_values: Tensor, arguments: dict[str, Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Run the tower of ``model`` (the model inside the head's).

        Returns:
            Features [image tokens, D], in the images' order; deepstack's features [image tokens, D], a layer each.
        """

    def install(self, language_model) -> None:  # noqa: B027 (most need nothing)
        """Change what a text model needs changed for the packed layout, beside its attention."""

    def blank_row(self, processor) -> Row:
        """As :meth:`Family.blank_row`, without the processor."""
        images = self.blank()
        ids = torch.tensor([0, *[self.image_token_id] * self.tokens(images), 0])
        return Row(ids, 1, images)
