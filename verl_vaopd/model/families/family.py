"""What this package must know of a family of models. A new family is one file beside this one (docs/models.md)."""

from typing import ClassVar

import torch
from PIL import Image
from torch import Tensor

from verl_vaopd.model.row import Row
from verl_vaopd.model.vision import ImageInputs

SCALED_HEADS = ("final_logit_softcapping", "logits_scaling", "logit_scale", "lm_head_multiplier")
"""Settings of text configs by which some families change their logits."""
BLANK_SIDE = 32


class Family:
    """Made from a model's config. As it is, it fits every model of images and text whose own forward this package can
    run on right-padded rows; what is special is said by a class in a file of its own.

    Class attributes: ``model_types``, as in ``config.json``; ``layouts`` that fit, the fastest first; ``wrong_on_cpu``:
    why vLLM's CPU backend does not sample what a student of this family says, if it does not; ``text_right_on_cpu``:
    whether it does where no prompt has an image; ``own_units``: whether FSDP's units are this package's
    (:func:`~verl_vaopd.model.host.wrap_targets`), since the host's break some towers.
    """

    model_types: ClassVar[tuple[str, ...]] = ()
    layouts: tuple[str, ...] = ("padded",)
    wrong_on_cpu: ClassVar[str | None] = None
    text_right_on_cpu: ClassVar[bool] = False
    own_units: ClassVar[bool] = True

    def __init__(self, config):
        """Raises ValueError: the head's logits are not hidden states times weights alone."""
        self.config = config
        self.image_token_id: int = config.image_token_id
        self.placeholder_ids = [config.image_token_id]
        for name in SCALED_HEADS:
            if (value := getattr(config.text_config, name, None)) not in (None, 1):  # of some families only
                raise ValueError(f"its head is capped or scaled ({name}={value}), which is not supported")

    @property
    def unread(self) -> list[str]:
        """Layers of a CLIP or SigLIP tower whose output the model does not read, by their names in memory: what makes
        one vector of an image; and where the model takes the features of one layer, all that comes behind it."""
        vision = getattr(self.config, "vision_config", None)  # of some families: absent
        if vision is None or vision.model_type not in ("clip_vision_model", "siglip_vision_model"):
            return []
        clip, layers = vision.model_type == "clip_vision_model", vision.num_hidden_layers
        unread = [] if clip or not getattr(vision, "vision_use_head", True) else ["head"]
        taken = getattr(self.config, "vision_feature_layer", None)  # of the LLaVA's: one or several, 0 the embeddings
        if clip or taken is not None:
            unread.append("post_layernorm")
        if taken is not None:
            last = max(place % (layers + 1) for place in ([taken] if isinstance(taken, int) else taken))
            unread += [f"encoder.layers.{place}" for place in range(last, layers)]
        return [f"model.vision_tower.{layer}" for layer in unread]

    def joined(self, images: list[ImageInputs]) -> dict[str, Tensor]:
        """The images of several rows as one input."""
        names = images[0].tensors if images else ()
        return {name: torch.cat([each.tensors[name] for each in images]) for name in names}

    def blank_row(self, processor) -> Row:
        """A short row with an image, which holds nothing."""
        image = Image.new("RGB", (BLANK_SIDE, BLANK_SIDE))
        encoded = processor(text=[processor.image_token], images=[image], return_tensors="pt")
        ids = encoded["input_ids"][0]
        return Row(torch.cat([ids, ids.new_zeros(1)]), 1, ImageInputs.of(encoded))
