"""What of the student is not trained: named parts, and what no forward reaches."""

import re
from collections.abc import Collection, Iterable

import torch

from verl_vaopd.settings.trained import PARTS

MERGER = re.compile(r"(^|\.)(merger|deepstack_merger_list|multi_modal_projector|image_newline|embed_vision)(\.|$)")
VISION = re.compile(r"(^|\.)(visual|vision_tower)(\.|$)")


def part_of(name: str) -> str:
    """Which of ``PARTS`` a parameter or a layer belongs to, by its name in memory."""
    if MERGER.search(name):
        return "merger"
    if VISION.search(name):
        return "vision"
    return "head" if name.startswith("lm_head") else "language"


def freeze(module: torch.nn.Module, parts: Collection[str]) -> None:
    """Take gradients from ``parts``, before FSDP wraps the module, which then reduces none of them.

    A tensor of two parts, as a head that is tied to the input embedding, is frozen with either.

    Raises:
        ValueError: nothing is left to train.
    """
    for name, parameter in module.named_parameters(remove_duplicate=False):
        if part_of(name) in parts:
            parameter.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in module.parameters()):
        rest = [part for part in PARTS if part not in parts]
        raise ValueError(
            f"vaopd.freeze={list(parts)} leaves nothing to train: {', '.join(rest)} shares its weights with a frozen "
            "part (config.json: tie_word_embeddings)"
        )


def freeze_layers(module: torch.nn.Module, layers: Collection[str]) -> list[str]:
    """Take gradients from whole layers, before FSDP wraps the module. Returns the names of their parameters."""
    names = [name for name, _ in module.named_parameters() if name.startswith(tuple(f"{each}." for each in layers))]
    for name in names:
        module.get_parameter(name).requires_grad_(False)
    return names


def trained_parameters(module: torch.nn.Module) -> list[torch.nn.Parameter]:
    """What the optimiser steps on."""
    return [parameter for parameter in module.parameters() if parameter.requires_grad]


def frozen_names(module: torch.nn.Module) -> set[str]:
    """Every name of every parameter that is not trained; tied ones have two."""
    return {name for name, each in module.named_parameters(remove_duplicate=False) if not each.requires_grad}


def unreached(module: torch.nn.Module) -> list[str]:
    """Trained parameters to which the backward of a whole mini-batch brought no gradient."""
    return [name for name, each in module.named_parameters() if each.requires_grad and each.grad is None]


def freeze_names(module: torch.nn.Module, optimizer: torch.optim.Optimizer, names: Iterable[str]) -> None:
    """Take parameters that no forward reaches from the optimiser, which has no state of them: a checkpoint would miss
    it."""
    names = set(names)
    found = {id(each): each.requires_grad_(False) for name, each in module.named_parameters() if name in names}
    for group in optimizer.param_groups:
        group["params"] = [each for each in group["params"] if id(each) not in found]
