"""GLM-4V."""

from torch import Tensor

from verl_vaopd.model.families.patch_grid import PatchGridFamily
from verl_vaopd.model.vision import ImageInputs


class Glm4V(PatchGridFamily):
    """Its tower reads sizes where it computes. Source: https://huggingface.co/docs/transformers/model_doc/glm4v."""

    model_types = ("glm4v",)

    def arguments(self, images: list[ImageInputs]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        moved, kept = super().arguments(images)
        return moved | kept, {}
