"""Names of the student's weights outside of this process: those that vLLM is sent, and those of an exported folder."""

from collections.abc import Iterable, Iterator

import torch
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import PrefixChange, revert_weight_conversion

TOWER = "vision_model"
"""What names of CLIP's and SigLIP's towers begin with on the hub and in vLLM, and in transformers' memory no more."""


def keep_hub_names(model: torch.nn.Module) -> bool:
    """Have a model whose tower has another name in memory written by the hub's names, whatever it was made from:
    transformers would leave the prefix out where it did not read it. To be called before FSDP wraps the model.

    Returns:
        Whether it has such a tower: vLLM then knows the hub's names alone.
    """
    conversions = get_model_conversion_mapping(model, add_legacy=False)
    renamed = any(isinstance(each, PrefixChange) and each.prefix_to_remove == TOWER for each in conversions)
    if renamed:
        model._weight_conversions = conversions
    return renamed


def hub_name(module: torch.nn.Module, name: str) -> str:
    """The name on the hub of what is called ``name`` in memory, of a module that :func:`keep_hub_names` has seen."""
    (found,) = revert_weight_conversion(module, {name: torch.empty(0, device="meta")})
    return found


def by_hub_names(
    module: torch.nn.Module, weights: Iterable[tuple[str, torch.Tensor]]
) -> Iterator[tuple[str, torch.Tensor]]:
    """``weights``, named as vLLM finds them in a checkpoint."""
    for name, weight in weights:
        yield hub_name(module, name), weight
