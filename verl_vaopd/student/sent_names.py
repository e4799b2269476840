"""Under which names the student's weights reach vLLM."""

from collections.abc import Iterable, Iterator

import torch
from transformers.core_model_loading import revert_weight_conversion


def hub_name(module: torch.nn.Module, name: str) -> str:
    """The name on the hub of what is called ``name`` in memory, of a module that was loaded from a checkpoint."""
    (found,) = revert_weight_conversion(module, {name: torch.empty(0, device="meta")})
    return found


def by_hub_names(
    module: torch.nn.Module, weights: Iterable[tuple[str, torch.Tensor]]
) -> Iterator[tuple[str, torch.Tensor]]:
    """``weights``, named as vLLM finds them in a checkpoint."""
    for name, weight in weights:
        yield hub_name(module, name), weight
