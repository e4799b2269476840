"""Gemma 3: tokens of an image see each other, most layers see a window."""

import torch

from verl_vaopd.model.families.family import Family
from verl_vaopd.model.row import Row
from verl_vaopd.model.vision import ImageInputs


class Gemma3(Family):
    """Source: https://huggingface.co/docs/transformers/model_doc/gemma3."""

    model_types = ("gemma3",)
    wrong_on_cpu = "to it, tokens of an image see only earlier ones"
    text_right_on_cpu = True

    def blank_row(self, processor) -> Row:
        vision = self.config.vision_config
        pixels = torch.zeros(1, vision.num_channels, vision.image_size, vision.image_size)
        ids = torch.tensor([0, *[self.image_token_id] * self.config.mm_tokens_per_image, 0])
        return Row(ids, 1, ImageInputs(pixels))
