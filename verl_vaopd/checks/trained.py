"""What of the student is to be trained: asked of its config, before any weight is loaded."""

from pathlib import Path

import torch
from omegaconf import OmegaConf
from transformers import AutoConfig, AutoModelForImageTextToText

from verl_vaopd.model.families import family_of
from verl_vaopd.model.head import is_here, local_checkpoint
from verl_vaopd.settings.trained import PARTS, frozen_parts, lora_settings
from verl_vaopd.student.frozen import freeze, part_of
from verl_vaopd.student.trained import Trained


def check_trained(config) -> torch.nn.Module | None:
    """Refuse what cannot be trained. Returns the student without its weights, parts frozen; None: all is trained.

    Raises:
        ValueError: names the setting.
    """
    parts, lora = _asked(config)
    if not parts and not lora:
        return None
    path = local_checkpoint(config.actor_rollout_ref.model.path)
    with torch.device("meta"):
        module = AutoModelForImageTextToText.from_config(AutoConfig.from_pretrained(path))
    freeze(module, parts)
    if lora:
        from verl_vaopd.student.adapters import add_adapters  # imports PEFT

        add_adapters(module, lora, parts, merged=config.actor_rollout_ref.model.lora.merge)
    return module


def _asked(config) -> tuple[tuple[str, ...], dict | None]:
    """Frozen parts, and what is asked of adapters."""
    own = config.actor_rollout_ref
    return frozen_parts(config.vaopd.freeze, own.actor), lora_settings(OmegaConf.to_container(own.model, resolve=True))


def check_trained_of(checkpoint: Path, config) -> None:
    """Refuse to go on from a checkpoint of a run that trained something else. Errors: :meth:`Trained.require_same`."""
    parts, lora = _asked(config)
    now = Trained(config.actor_rollout_ref.model.path, list(parts), lora)
    now.require_same(Trained.read(checkpoint / "actor"), checkpoint)


def said_of_trained(config) -> list[str]:
    """Lines for the person who starts the run, if not all of the student is trained and its config is here."""
    path = config.actor_rollout_ref.model.path
    if not is_here(path):
        return []
    unread = family_of(AutoConfig.from_pretrained(local_checkpoint(path))).unread
    said = [f"not trained, nothing reads their output: {', '.join(unread)}"] if unread else []
    if (module := check_trained(config)) is None:
        return said
    names = [name for name, each in module.named_parameters(remove_duplicate=False) if each.requires_grad]
    trained, counts = {part_of(name) for name in names}, {True: 0, False: 0}
    for parameter in module.parameters():
        counts[parameter.requires_grad] += parameter.numel()
    what = "adapters of " if config.actor_rollout_ref.model.lora_rank else ""
    return said + [
        f"trained: {what}{', '.join(part for part in PARTS if part in trained)} ({counts[True]:,} parameters); "
        f"frozen: {', '.join(part for part in PARTS if part not in trained)} ({counts[False]:,})"
    ]
