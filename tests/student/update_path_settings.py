"""What the update path and its naive twin must agree on, without importing verl."""

import zlib
from collections.abc import Iterable, Iterator

import torch

TEMPERATURE = 0.7  # of the rollouts
REWARDS = [1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0]  # of the twelve rows; "text" earns none
FAULTY = ("teacher_hidden", "head")  # what holds the NaN or infinity

LORA = {"lora_rank": 4, "lora_alpha": 12, "target_modules": ".*language_model.*_proj"}
LORA_EVERYWHERE = {**LORA, "target_modules": "all-linear", "exclude_modules": ["qkv"], "lora": {"merge": True}}


def adapter_values(parameters: Iterable[tuple[str, torch.Tensor]]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Every adapter's parameter and what it is to hold, which hangs on its name: B is not zero, as it begins."""
    for name, parameter in parameters:
        if ".lora_" in name:
            generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
            yield parameter, 0.2 * torch.randn(parameter.shape, generator=generator)
