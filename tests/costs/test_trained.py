"""Counts of what is trained against modules of transformers and PEFT, and what it takes off a step's cost."""

from dataclasses import replace

import pytest
import torch
from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

from tests.costs.test_shapes import TEXT, VISION, small_config
from verl_vaopd.costs.published import QWEN3_VL_INSTRUCT
from verl_vaopd.costs.shapes import ModelShape
from verl_vaopd.costs.trained import Learns
from verl_vaopd.student.adapters import add_adapters
from verl_vaopd.student.frozen import freeze

LORA = {"lora_rank": 8, "lora_alpha": 16, "target_modules": ".*language_model.*_proj", "exclude_modules": None}
SHAPE = ModelShape(TEXT, VISION, tied=False)


def built(config) -> torch.nn.Module:
    with torch.device("meta"):
        return Qwen3VLForConditionalGeneration(config)


def trained(module) -> int:
    return sum(each.numel() for each in module.parameters() if each.requires_grad)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(
    "frozen", [("vision",), ("vision", "merger"), ("language",), ("head",), ("merger", "head"), ("vision", "language")]
)
def test_frozen_parts_are_not_counted(frozen, tied):
    module = built(small_config(tied))
    freeze(module, frozen)
    assert Learns.of(ModelShape.of(module.config), frozen).parameters == trained(module)


@pytest.mark.parametrize(
    "lora",
    [
        LORA,
        {**LORA, "target_modules": "all-linear"},
        {**LORA, "target_modules": ["q_proj", "linear_fc2"], "exclude_modules": ".*merger.*"},
        {**LORA, "target_modules": "all-linear", "exclude_modules": ["qkv", "down_proj"]},
    ],
)
def test_adapters_are_counted_as_peft_makes_them(lora):
    module = built(Qwen3VLConfig(**QWEN3_VL_INSTRUCT["2B"]))
    shape = ModelShape.of(module.config)
    add_adapters(module, lora, (), merged=True)
    learns = Learns.of(shape, (), lora)
    assert learns.parameters == learns.adapters == trained(module)
    assert learns.vision_backward == any(
        each.requires_grad for name, each in module.named_parameters() if "visual.blocks" in name
    )


def test_products_of_a_backward():
    """Forward once; a backward through a part once more, gradients of its weights once more."""
    sizes = dict(tokens=30, pairs=100, images=2, patches=16)
    whole, _ = SHAPE.training_flops(**sizes)
    text, vision = 30 * TEXT.linear_flops, 32 * VISION.linear_flops
    again, pixels = 30 * TEXT.recomputed_flops, 32 * 2 * VISION.patch_matrix
    assert whole == 3 * (text + vision) - pixels + again + 32 * VISION.recomputed_flops
    frozen_tower, _ = SHAPE.training_flops(**sizes, learns=Learns.of(SHAPE, ("vision", "merger")))
    assert frozen_tower == 3 * text + again + vision
    frozen_text, _ = SHAPE.training_flops(**sizes, learns=Learns.of(SHAPE, ("language",)))
    assert frozen_text == whole - text
    adapters, scores = SHAPE.training_flops(**sizes, learns=Learns.of(SHAPE, (), LORA))
    assert adapters == 2 * text + again + vision
    assert scores == 100 * TEXT.score_flops * 9 / 2 + 2 * 16**2 * VISION.score_flops
    head_alone = Learns.of(SHAPE, ("vision", "merger", "language"))
    assert SHAPE.training_flops(**sizes, learns=head_alone)[0] == text + vision
    assert replace(head_alone, parameters=0) == Learns(0, 0, False, False, False, False, True)
