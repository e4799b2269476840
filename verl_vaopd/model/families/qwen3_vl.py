"""Qwen3-VL, dense and mixture of experts: learned positions of patches, and deepstack."""

from types import MethodType

from torch import Tensor
from transformers.vision_utils import get_vision_bilinear_indices_and_weights

from verl_vaopd.model.families.patch_grid import PatchGridFamily
from verl_vaopd.model.vision import ImageInputs


class Qwen3VL(PatchGridFamily):
    """Source: https://huggingface.co/docs/transformers/model_doc/qwen3_vl and qwen3_vl_moe."""

    model_types = ("qwen3_vl", "qwen3_vl_moe")
    own_units = False

    def __init__(self, config):
        super().__init__(config)
        self.positions_per_side = int(config.vision_config.num_position_embeddings**0.5)

    def arguments(self, images: list[ImageInputs]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        moved, kept = super().arguments(images)
        indices, weights = get_vision_bilinear_indices_and_weights(
            kept["grid_thw"], self.positions_per_side, self.merge
        )
        return moved | {"bilinear_indices": indices, "bilinear_weights": weights}, kept

    def see(self, model, pixel_values: Tensor, arguments: dict[str, Tensor]) -> tuple[Tensor, list[Tensor]]:
        output = model.visual(pixel_values, **arguments, return_dict=True)
        return output.pooler_output, output.deepstack_features

    def install(self, language_model) -> None:
        language_model._deepstack_process = MethodType(add_at_images, language_model)


def add_at_images(self, hidden: Tensor, at: Tensor, features: Tensor) -> Tensor:
    """Deepstack's ``hidden[:, at] + features``, by positions: a boolean mask would be counted, and waited for."""
    return hidden.index_add(1, at, features[None].to(hidden.dtype))
