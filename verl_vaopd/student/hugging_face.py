"""A student as a Hugging Face folder: adapters merged, and beside it the adapters as PEFT keeps them."""

import os

import torch
from peft import LoraConfig
from safetensors.torch import save_file
from transformers import AutoModelForImageTextToText, GenerationConfig
from verl.utils.transformers_compat import drop_tied_target_keys

from verl_vaopd.student.sent_names import keep_hub_names

ADAPTER_FOLDER = "adapter"
"""In the folder of the merged student."""


def write_student(folder: str, config, weights: dict[str, torch.Tensor]) -> None:
    """Write ``weights``, by name in memory, as the model of ``config``, by the hub's names, which transformers and vLLM
    read; generation config as ``folder`` has it."""
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(
            config, dtype=torch.bfloat16
        )  # as the host's config.json has it
    if os.path.exists(os.path.join(folder, "generation_config.json")):
        model.generation_config = GenerationConfig.from_pretrained(folder)
    keep_hub_names(model)
    drop_tied_target_keys(weights, model, config)
    model.save_pretrained(folder, state_dict=weights)


def write_adapter(folder: str, config: LoraConfig, weights: dict[str, torch.Tensor]) -> None:
    """Write ``adapter/`` in ``folder``: ``PeftModel.from_pretrained(student, ".../adapter")`` loads it.

    Args:
        weights: by PEFT's names, on the CPU.
    """
    path = os.path.join(folder, ADAPTER_FOLDER)
    os.makedirs(path, exist_ok=True)
    config.save_pretrained(path)
    save_file(
        {name: each.contiguous() for name, each in weights.items()},
        os.path.join(path, "adapter_model.safetensors"),
        metadata={"format": "pt"},
    )
