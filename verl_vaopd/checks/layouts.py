"""Which family and layout student and teacher have, decided before anything is loaded."""

from transformers import AutoConfig

from verl_vaopd.model.families import Family, family_of, layout_of
from verl_vaopd.model.head import local_checkpoint
from verl_vaopd.model.padded import check_padded

EXPERTS = ("num_experts", "n_routed_experts", "num_local_experts", "moe_num_experts")
"""What text configs call their number."""


def layouts_of(config, models: dict[str, str]) -> dict[str, tuple[str, str]]:
    """``student`` and ``teacher``, as far as they are in ``models`` (paths), -> model type and layout.

    Raises:
        ValueError: a model that is not supported, or settings that its layout does not follow, by name.
    """
    actor = config.actor_rollout_ref
    asked = {
        "student": (actor.model.override_config, actor.actor.ulysses_sequence_parallel_size),
        "teacher": (config.vaopd.teacher.override_config, 1),
    }
    found = {}
    for name, path in models.items():
        model = AutoConfig.from_pretrained(local_checkpoint(path))
        overrides, ranks = asked[name]
        try:
            family = family_of(model)
            if name == "student":
                check_served(family, model, config.trainer.device)
            layout = layout_of(family, config.vaopd.layout)
            check_padded(layout, overrides.get("attn_implementation", "auto"), ranks)
        except ValueError as error:
            raise ValueError(f"the {name} ({path}): {error}") from error
        found[name] = (model.model_type, layout)
    return found


def check_served(family: Family, model, device: str) -> None:
    """Refuse a student that vLLM cannot sample from.

    Raises:
        ValueError: it has experts, its architecture is not among vLLM's, or the CPU backend would sample from another
            distribution.
    """
    if any(getattr(model.text_config, name, None) for name in EXPERTS):  # of mixtures only
        raise ValueError(
            f"a {model.model_type} student is not supported: experts' weights have not been seen to reach vLLM whole; "
            "as a teacher it runs"
        )
    if device == "cpu" and family.wrong_on_cpu:
        raise ValueError(
            f"a {model.model_type} student needs a GPU: vLLM's CPU backend does not serve it rightly "
            f"({family.wrong_on_cpu}); as a teacher it runs"
        )
    if family.model_types:
        return
    from vllm import ModelRegistry  # takes seconds, and is needed for families of no file here alone

    if not set(model.architectures or ()) & set(ModelRegistry.get_supported_archs()):
        raise ValueError(f"vLLM does not serve {model.architectures}: the student must be a model that it does")


def padded_words(layouts: dict[str, tuple[str, str]]) -> list[str]:
    """What the person who starts the run should know of layouts."""
    return [
        f"{name}: a {model_type} model in the padded layout, slower than the packed one and as exact (docs/models.md)"
        for name, (model_type, layout) in layouts.items()
        if layout == "padded"
    ]
