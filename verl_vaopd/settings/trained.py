"""What of the student is trained: ``vaopd.freeze``, verl's switch for the vision tower, its settings of adapters."""

from typing import Any

PARTS = ("vision", "merger", "language", "head")
"""vision: the tower; merger: what brings its features to the language model; language: input embedding and layers."""


def frozen_parts(freeze: list[str], actor) -> tuple[str, ...]:
    """Parts that are not trained, in the order of :data:`PARTS`.

    Args:
        freeze: ``vaopd.freeze``; actor: section ``actor_rollout_ref.actor``, whose ``freeze_vision_tower`` is [vision].
    Raises:
        ValueError: together they are all parts.
    """
    named = {*freeze, *(["vision"] if actor.freeze_vision_tower else [])}
    if named == set(PARTS):
        raise ValueError(
            f"vaopd.freeze={list(freeze)}: nothing is left to train with "
            "actor_rollout_ref.actor.freeze_vision_tower=true"
        )
    return tuple(part for part in PARTS if part in named)


def lora_settings(model) -> dict[str, Any] | None:
    """Rank, alpha and layers of a section ``actor_rollout_ref.model`` (a dataclass or plain); None: no adapters."""
    if not model["lora_rank"]:
        return None
    names = ("lora_rank", "lora_alpha", "target_modules", "exclude_modules")
    return {name: list(model[name]) if isinstance(model[name], list | tuple) else model[name] for name in names}
