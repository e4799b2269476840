"""Model families: one file each, named here. ``family_of(config)`` is what the rest of the package calls."""

from verl_vaopd.model.families.family import Family
from verl_vaopd.model.families.glm4v import Glm4V
from verl_vaopd.model.families.internvl import InternVL
from verl_vaopd.model.families.qwen2_5_vl import Qwen2_5VL
from verl_vaopd.model.families.qwen2_vl import Qwen2VL
from verl_vaopd.model.families.qwen3_vl import Qwen3VL

FAMILIES: tuple[type[Family], ...] = (Qwen3VL, Qwen2_5VL, Qwen2VL, Glm4V, InternVL)
BY_MODEL_TYPE = {model_type: family for family in FAMILIES for model_type in family.model_types}


def family_of(config) -> Family:
    """The family of a model, from its config.

    Raises:
        ValueError: no family is known for its ``model_type``, or the family cannot run this config.
    """
    if config.model_type not in BY_MODEL_TYPE:
        raise ValueError(
            f"model type {config.model_type!r} is not supported; one of {', '.join(BY_MODEL_TYPE)} is needed"
        )
    return BY_MODEL_TYPE[config.model_type](config)
