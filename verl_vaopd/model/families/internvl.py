"""InternVL 3: images are tiles of one size, each as many tokens; plain positions."""

import torch
from torch import Tensor

from verl_vaopd.model.families.packed_family import PackedFamily
from verl_vaopd.model.vision import ImageInputs


class InternVL(PackedFamily):
    """Source: https://huggingface.co/docs/transformers/model_doc/internvl."""

    model_types = ("internvl",)

    def tokens(self, images: ImageInputs) -> int:
        return len(images.pixel_values) * self.config.image_seq_length

    def blank(self) -> ImageInputs:
        vision = self.config.vision_config
        return ImageInputs(torch.zeros(1, vision.num_channels, *vision.image_size))

    def see(self, model, pixel_values: Tensor, arguments: dict[str, Tensor]) -> tuple[Tensor, list[Tensor]]:
        features = model.get_image_features(
            pixel_values,
            vision_feature_layer=self.config.vision_feature_layer,
            vision_feature_select_strategy=self.config.vision_feature_select_strategy,
        ).pooler_output
        return features.flatten(0, 1), []
