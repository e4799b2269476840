"""Which attention kernel student and teacher will run, decided before anything is loaded."""

import torch

from verl_vaopd.methods import Method, method_of
from verl_vaopd.model.kernels import resolve_attention
from verl_vaopd.settings.compose import instantiate

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


def kernels_of(config, method: Method) -> dict[str, str]:
    """``student`` and, if one is loaded, ``teacher`` -> the kernel that ``attn_implementation`` means for it.

    Raises:
        ValueError: a kernel that is not known, not installed, or cannot run on such a device or in this dtype.
    """
    actor, teacher = config.actor_rollout_ref.actor, method.settings.teacher
    asked = {
        "student": (
            config.actor_rollout_ref.model.override_config,
            actor.fsdp_config.mixed_precision.param_dtype,
        )
    }
    if method.teacher_views:
        asked["teacher"] = (teacher.override_config, teacher.dtype)
    return {
        name: resolve_attention(overrides.get("attn_implementation", "auto"), config.trainer.device, DTYPES[dtype])
        for name, (overrides, dtype) in asked.items()
    }


def said(config) -> str:
    """A line for the person who starts the run, whose settings have been checked."""
    kernels = kernels_of(config, method_of(instantiate(config)))
    return "attention: " + ", ".join(f"{name} {kernel}" for name, kernel in kernels.items())
