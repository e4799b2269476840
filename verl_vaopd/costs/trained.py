"""What of a student is trained, as far as its cost goes: counts, and which products a backward has."""

import re
from dataclasses import dataclass

from verl_vaopd.costs.shapes import ModelShape

ALL_LINEAR = "all-linear"


@dataclass(frozen=True)
class Learns:
    """A frozen part has no gradients of weights; with nothing trained in it or before it, no backward at all."""

    parameters: int
    """That are trained: so many gradients, and twice as many of AdamW's states."""
    adapters: int = 0
    """Of them, parameters that are not the model's own."""
    text_weights: bool = True
    """Gradients of the decoder layers' own weights."""
    text_backward: bool = True
    vision_weights: bool = True
    vision_backward: bool = True
    head_weights: bool = True

    @classmethod
    def everything(cls, model: ModelShape) -> "Learns":
        return cls(model.total)

    @classmethod
    def of(cls, model: ModelShape, frozen: tuple[str, ...] = (), lora: dict | None = None) -> "Learns":
        """Args: ``frozen`` of vision, merger, language, head; ``lora``: verl's settings of adapters, by name."""
        if lora:
            layers = {name: each for name, each in linear_layers(model).items() if _adapted(name, lora)}
            count = lora["lora_rank"] * sum((rows + columns) * times for rows, columns, times in layers.values())
            vision = any(name.startswith("model.visual.blocks") for name in layers)
            merger = any(name.startswith("model.visual.") for name in layers)
            text = merger or any(".language_model." in name for name in layers)
            return cls(count, count, False, text, False, vision, False)
        sizes = part_sizes(model)
        tied = model.tied and {"language", "head"} & set(frozen)
        embedding = model.head_size if tied and "language" not in frozen else 0
        kept = {part: size for part, size in sizes.items() if part not in frozen}
        return cls(
            parameters=sum(kept.values()) - embedding,
            text_weights="language" in kept,
            text_backward=bool({"language", "merger", "vision"} & set(kept)),
            vision_weights="vision" in kept,
            vision_backward="vision" in kept,
            head_weights="head" in kept and not tied,
        )


def part_sizes(model: ModelShape) -> dict[str, int]:
    """Parameters of each part that can be frozen; a tied head is counted in the language model."""
    sizes, merger = model.parameters, model.vision.merger_parameters
    return {
        "vision": sizes["vision"] - merger,
        "merger": merger,
        "language": sizes["embedding"] + sizes["layers"] + sizes["norm"],
        "head": sizes["head"],
    }


def linear_layers(model: ModelShape) -> dict[str, tuple[int, int, int]]:
    """Name of a linear layer, as of the first of its kind -> (inputs, outputs, layers of that kind)."""
    text, vision = model.text, model.vision
    h, i, q = text.hidden_size, text.intermediate_size, text.num_attention_heads * text.head_dim
    merged = vision.merge * vision.hidden_size
    of_text = {
        "self_attn.q_proj": (h, q),
        "self_attn.k_proj": (h, text.kv_width),
        "self_attn.v_proj": (h, text.kv_width),
        "self_attn.o_proj": (q, h),
        "mlp.gate_proj": (h, i),
        "mlp.up_proj": (h, i),
        "mlp.down_proj": (i, h),
    }
    layers = {
        f"model.language_model.layers.0.{name}": (*size, text.num_hidden_layers) for name, size in of_text.items()
    }
    layers |= {f"model.visual.blocks.0.{name}": (*size, vision.depth) for name, size in vision.block_linear.items()}
    first, second = vision.merger_linear
    for name, times in (("merger", 1), ("deepstack_merger_list.0", vision.mergers - 1)):
        layers[f"model.visual.{name}.{first}"] = (merged, merged, times)
        layers[f"model.visual.{name}.{second}"] = (merged, vision.out_hidden_size, times)
    return layers


def _adapted(name: str, lora: dict) -> bool:
    """As PEFT has it; a pattern that tells layers of one kind apart counts as it does for the first."""
    wanted, left_out = lora["target_modules"], lora["exclude_modules"]
    return (wanted == ALL_LINEAR or _matches(name, wanted)) and not (left_out and _matches(name, left_out))


def _matches(name: str, pattern: str | list[str]) -> bool:
    if isinstance(pattern, str):
        return re.fullmatch(pattern, name) is not None
    return any(name == each or name.endswith(f".{each}") for each in pattern)
