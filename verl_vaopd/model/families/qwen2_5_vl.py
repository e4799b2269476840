"""Qwen2.5-VL: most layers of its tower attend within windows."""

from torch import Tensor
from transformers.vision_utils import get_vision_window_index

from verl_vaopd.model.families.patch_grid import PatchGridFamily
from verl_vaopd.model.vision import ImageInputs


class Qwen2_5VL(PatchGridFamily):
    """Source: https://huggingface.co/docs/transformers/model_doc/qwen2_5_vl."""

    model_types = ("qwen2_5_vl",)

    def arguments(self, images: list[ImageInputs]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        moved, kept = super().arguments(images)
        vision = self.config.vision_config
        index, bounds = get_vision_window_index(kept["grid_thw"], self.merge, vision.window_size, vision.patch_size)
        return moved | {"window_index": index}, kept | {"cu_window_seqlens": bounds}
