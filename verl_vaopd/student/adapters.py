"""LoRA adapters in the student, put there by PEFT (Hu et al. 2021, arXiv 2106.09685): y = W x + alpha / r * B A x."""

from collections.abc import Collection, Iterator
from typing import Any

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from torch.distributed.tensor import DTensor

from verl_vaopd.student.frozen import part_of

MODEL = "actor_rollout_ref.model"
SEED = 42
ADAPTER, BASE, PEFT_PREFIX = ".lora_", ".base_layer.", "base_model.model."


def add_adapters(module: torch.nn.Module, lora: dict[str, Any], frozen: Collection[str], merged: bool) -> None:
    """Put adapters into ``module``, which alone are trained from then on; to be called before FSDP wraps it.

    The module stays what it is: no wrapper, the same forward, names of other layers as before. A is random, the same in
    every run; B is zero.

    Args:
        lora: as :func:`lora_settings` gives it; frozen: ``vaopd.freeze``.
        merged: weights go to vLLM merged, which can follow every layer; else adapters do, on language layers only.
    Raises:
        ValueError: layers that can have no adapter, named.
    """
    targets = f"{MODEL}.target_modules={lora['target_modules']!r}"
    config = LoraConfig(
        r=lora["lora_rank"],
        lora_alpha=lora["lora_alpha"],
        target_modules=lora["target_modules"],
        exclude_modules=lora["exclude_modules"],
        bias="none",
    )
    linear = {name for name, each in module.named_modules() if isinstance(each, torch.nn.Linear)}
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(SEED)
            inject_adapter_in_model(config, module)
    except ValueError as error:
        raise ValueError(f"{targets}: {error}") from error
    for name in adapted_layers(module):
        part = part_of(name)
        for wrong, why in (
            (part == "head", "the loss is fused with the head, which can have none; take it out"),
            (name not in linear, "only linear layers can have one"),
            (part in frozen, f"vaopd.freeze={list(frozen)} has its part, {part!r}; name other layers, or unfreeze it"),
            (
                part != "language" and not merged,
                f"vLLM takes none in the part {part!r}; set {MODEL}.lora.merge=true, or name language layers",
            ),
        ):
            if wrong:
                raise ValueError(f"{targets} puts an adapter on {name}: {why}")
    dtype = next(parameter.dtype for parameter in module.parameters() if not parameter.requires_grad)
    for parameter in module.parameters():
        parameter.data = parameter.data.to(dtype)  # FSDP wants one dtype in a unit


def adapted_layers(module: torch.nn.Module) -> dict[str, LoraLayer]:
    """Layers with an adapter by name, that of the layer they stand for."""
    return {name: each for name, each in module.named_modules() if isinstance(each, LoraLayer)}


def merged_weights(module: torch.nn.Module, device) -> Iterator[tuple[str, torch.Tensor]]:
    """Name, as without adapters, and whole tensor of every weight, adapters merged in, in the weight's own dtype.

    Every rank has to take them all, in order: each is gathered. Differs from verl's own merging, which leaves out
    adapters in FSDP's root unit, sends bf16, and changes the live weights for the time.
    """
    layers = adapted_layers(module)
    for name, weight in module.state_dict().items():
        if ADAPTER in name:
            continue
        owner, base, rest = name.rpartition(BASE)
        whole = gathered(weight, device)
        if base and rest == "weight":
            whole = merge(whole, *(gathered(each, device) for each in matrices(layers[owner])), scaling(layers[owner]))
        yield name.replace(BASE, "."), whole


def merge(weight: torch.Tensor, a: torch.Tensor, b: torch.Tensor, scale: float) -> torch.Tensor:
    """W + alpha / r * B A, summed in float32, in the dtype of W; W [out, in], A [r, in], B [out, r]."""
    return (weight.float() + scale * (b.float() @ a.float())).to(weight.dtype)


def adapter_weights(module: torch.nn.Module, device) -> dict[str, torch.Tensor]:
    """The adapters, whole, by the names of PEFT's files. Every rank has to call it."""
    return {
        PEFT_PREFIX + name.replace(".default.", "."): gathered(weight, device)
        for name, weight in module.state_dict().items()
        if ADAPTER in name
    }


def peft_config(module: torch.nn.Module, base: str) -> LoraConfig:
    """What PEFT's files say of the adapters; ``base``: path of the student that they were put on."""
    config = module.peft_config["default"]
    config.base_model_name_or_path, config.inference_mode = base, True
    return config


def matrices(layer: LoraLayer) -> tuple[torch.Tensor, torch.Tensor]:
    """A [r, in] and B [out, r]."""
    return layer.lora_A["default"].weight, layer.lora_B["default"].weight


def scaling(layer: LoraLayer) -> float:
    """alpha / r."""
    return layer.scaling["default"]


def gathered(weight: torch.Tensor, device) -> torch.Tensor:
    weight = weight.detach()
    return weight.to(device, non_blocking=True).full_tensor() if isinstance(weight, DTensor) else weight
