"""LLaVA-OneVision: as many tiles an image as its size asks for, padded to the most of a batch."""

from torch import Tensor
from torch.nn.functional import pad

from verl_vaopd.model.families.family import Family
from verl_vaopd.model.vision import ImageInputs


class LlavaOnevision(Family):
    """Source: https://huggingface.co/docs/transformers/model_doc/llava_onevision."""

    model_types = ("llava_onevision",)

    def joined(self, images: list[ImageInputs]) -> dict[str, Tensor]:
        """Each row's tiles [images, tiles, ...] are padded with zeros to the most tiles; the model takes those it needs
        by the images' sizes."""
        most = max((each.pixel_values.shape[1] for each in images), default=0)
        return super().joined(
            [
                ImageInputs(
                    **{
                        **each.tensors,
                        "pixel_values": pad(each.pixel_values, (0, 0) * 3 + (0, most - each.pixel_values.shape[1])),
                    }
                )
                for each in images
            ]
        )
