"""Model families: one file each, named here. ``family_of(config)`` is what the rest of the package calls."""

from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

from verl_vaopd.model.families.family import Family
from verl_vaopd.model.families.gemma3 import Gemma3
from verl_vaopd.model.families.glm4v import Glm4V
from verl_vaopd.model.families.internvl import InternVL
from verl_vaopd.model.families.llava_onevision import LlavaOnevision
from verl_vaopd.model.families.packed_family import PackedFamily
from verl_vaopd.model.families.qwen2_5_vl import Qwen2_5VL
from verl_vaopd.model.families.qwen2_vl import Qwen2VL
from verl_vaopd.model.families.qwen3_5 import Qwen3_5
from verl_vaopd.model.families.qwen3_vl import Qwen3VL

__all__ = ["FAMILIES", "Family", "PackedFamily", "family_of", "layout_of"]

FAMILIES: tuple[type[Family], ...] = (Qwen3VL, Qwen2_5VL, Qwen2VL, Glm4V, InternVL, Qwen3_5, Gemma3, LlavaOnevision)
BY_MODEL_TYPE = {model_type: family for family in FAMILIES for model_type in family.model_types}


def family_of(config) -> Family:
    """The family of a model, from its config. A model of images and text that no file here knows is a plain
    :class:`Family`.

    Raises:
        ValueError: no model of images and text, or one whose logits the fused loss would not get right.
    """
    known = BY_MODEL_TYPE.get(config.model_type)
    if known is None:
        if config.model_type not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES or not hasattr(config, "image_token_id"):
            raise ValueError(
                f"model type {config.model_type!r} is not supported: a model of images and text is needed, such as "
                f"{', '.join(BY_MODEL_TYPE)}"
            )
        known = Family
    try:
        return known(config)
    except ValueError as error:
        raise ValueError(f"model type {config.model_type!r} is not supported: {error}") from error


def layout_of(family: Family, asked: str = "auto") -> str:
    """The layout that ``vaopd.layout`` means for a family: ``auto`` is its fastest.

    Raises:
        ValueError: an unknown layout, or one that does not fit the family.
    """
    if asked == "auto":
        return family.layouts[0]
    if asked not in family.layouts:
        one_of = ", ".join(("auto", *family.layouts))
        raise ValueError(f"vaopd.layout={asked!r}: must be one of {one_of} for a {family.config.model_type} model")
    return asked
