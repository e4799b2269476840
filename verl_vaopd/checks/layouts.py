"""Which family and layout student and teacher have, decided before anything is loaded."""

from transformers import AutoConfig

from verl_vaopd.checks.rows import image_limit
from verl_vaopd.model.families import family_of, layout_of
from verl_vaopd.model.head import local_checkpoint
from verl_vaopd.model.padded import check_padded
from verl_vaopd.rollout.served import check_served


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
    adapters = actor.model.lora_rank > 0 and not actor.model.lora.merge
    found = {}
    for name, path in models.items():
        model = AutoConfig.from_pretrained(local_checkpoint(path))
        overrides, ranks = asked[name]
        try:
            family = family_of(model)
            if name == "student":
                check_served(family, model, config.trainer.device, adapters, image_limit(config))
            layout = layout_of(family, config.vaopd.layout)
            check_padded(layout, overrides.get("attn_implementation", "auto"), ranks)
        except ValueError as error:
            raise ValueError(f"the {name} ({path}): {error}") from error
        found[name] = (model.model_type, layout)
    return found


def padded_words(layouts: dict[str, tuple[str, str]]) -> list[str]:
    """What the person who starts the run should know of layouts."""
    return [
        f"{name}: a {model_type} model in the padded layout, slower than the packed one and as exact (docs/models.md)"
        for name, (model_type, layout) in layouts.items()
        if layout == "padded"
    ]
