"""The published Qwen3-VL-Instruct configs cut to few layers; random weights of them; prompts."""

import copy
import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

from verl_vaopd.costs.published import QWEN3_VL_INSTRUCT
from verl_vaopd.model.vision import ImageInputs

IDS = 151669
"""Of the tokenizer; the head has 151,936 rows."""
LAYERS, BLOCKS = 2, 2
"""Of text and of vision: every layer of either kind is alike but for what deepstack adds to the first."""


def shortened(size: str) -> dict:
    """All widths, the vocabulary, rotary sections and heads as published; deepstack after each of the blocks left."""
    config = copy.deepcopy(QWEN3_VL_INSTRUCT[size])
    config["text_config"]["num_hidden_layers"] = LAYERS
    config["vision_config"] |= {"depth": BLOCKS, "deepstack_visual_indexes": [*range(BLOCKS)]}
    return config


def make_checkpoint(folder: Path, size: str, seed: int) -> None:
    """bf16, as published. A short block of random numbers again and again, out of step with the rows: drawing billions
    takes minutes."""
    config = shortened(size)
    with torch.device("meta"):
        model = Qwen3VLForConditionalGeneration(Qwen3VLConfig(**config))
    block = torch.randn(1_000_003, generator=torch.Generator().manual_seed(seed)).bfloat16()
    weights, start = {}, 0
    for name, parameter in model.named_parameters():
        if parameter.dim() == 1:
            weights[name] = torch.full(parameter.shape, float(name.endswith("weight")), dtype=torch.bfloat16)
            continue
        numel = parameter.numel()
        scaled = block * parameter[0].numel() ** -0.5  # by the width that it reads
        weights[name] = scaled.roll(-start).repeat(-(-numel // len(block)))[:numel].view(parameter.shape)
        start = (start + numel) % len(block)
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


class RealPrompts:
    """A prompt with an image of 4 x 6 patches, six tokens, and three rollouts; one without, and one rollout.

    original, degraded: uid -> ImageInputs; rows: (uid, input_ids, response length).
    """

    def __init__(self):
        generator = torch.Generator().manual_seed(0)

        def ids(count: int) -> torch.Tensor:
            return torch.randint(0, 151643, (count,), generator=generator)  # text

        grid = torch.tensor([[1, 4, 6]])
        views = [ImageInputs(torch.randn(24, 3 * 2 * 16 * 16, generator=generator), grid) for _ in range(2)]
        self.original, self.degraded = {"image": views[0]}, {"image": views[1]}
        image = [torch.tensor([151652]), torch.full((6,), 151655), torch.tensor([151653])]
        prompts = {"image": torch.cat([ids(2), *image, ids(2)]), "text": ids(3)}
        rollouts = (("image", 2), ("image", 1), ("image", 2), ("text", 2))
        self.rows = [(uid, torch.cat([prompts[uid], ids(length)]), length) for uid, length in rollouts]
