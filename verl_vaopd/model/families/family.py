"""What this package must know of a family of models. A new family is one file beside this one (docs/models.md)."""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from verl_vaopd.model.vision import ImageInputs


class Family(ABC):
    """Made from a model's config. Everything here runs in host memory but :meth:`see`.

    Class attributes: ``model_types``, as in ``config.json``; ``axes`` of a position: 3 (temporal, height, width), or 1.
    """

    model_types: ClassVar[tuple[str, ...]]
    axes: ClassVar[int] = 1

    def __init__(self, config):
        """Raises ValueError: the text model's attention is not over all earlier tokens, as the packed layout needs."""
        self.config = config
        self.image_token_id: int = config.image_token_id
        self.placeholder_ids = [config.image_token_id]
        layers = getattr(config.text_config, "layer_types", None) or []  # of configs with one kind of layer: absent
        if other := sorted(set(layers) - {"full_attention"}):
            raise ValueError(
                f"a {config.model_type} model whose layers are {', '.join(other)} is not supported: "
                "sequences that share their prompt need full attention"
            )

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
