"""Untrained checkpoints without tokenizer, and rollouts of random ids: what the engine tests run on."""

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText

from tests.random_configs import CONFIGS, IMAGE, IMAGE_SIDE, VISION_END, VISION_START
from verl_vaopd.model.vision import ImageInputs

VOCAB_SIZE = 100  # ids of the imagined tokenizer; 90 to 93 are the vision tokens
PATCH_DIM = 3 * 2 * 8 * 8
TOWER, PREFIXED = "vision_tower.", ("gemma3", "llava_onevision", "llava")
"""Whose towers have a prefix on the hub that transformers does not write for a model made from a config."""


def make_checkpoint(
    path, hidden: int, layers: int, head_rows: int, tied: bool, seed: int, family: str = "qwen3_vl"
) -> None:
    """Write an untrained model whose next-token distributions are far from uniform, named as on the hub."""
    torch.manual_seed(seed)
    model = AutoModelForImageTextToText.from_config(CONFIGS[family](hidden, layers, head_rows, tied))
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.15)
    save_as_on_the_hub(model, path)


def save_as_on_the_hub(model, path) -> None:
    model.save_pretrained(path)
    if model.config.model_type in PREFIXED:
        file = Path(path) / "model.safetensors"
        renamed = {name.replace(TOWER, f"{TOWER}vision_model."): each for name, each in load_file(file).items()}
        save_file(renamed, file, metadata={"format": "pt"})


def load(path, **settings):
    """A checkpoint as transformers alone runs it, in fp32."""
    return AutoModelForImageTextToText.from_pretrained(path, attn_implementation="sdpa", **settings)


def plain_logits(model, input_ids: torch.Tensor, response_length: int, images: ImageInputs | None) -> torch.Tensor:
    """[response_length, head rows]: transformers' own forward on one sequence, one view."""
    inputs = {} if images is None else dict(images.tensors)
    kinds = {"gemma3": "token_type_ids", "internvl": None, "llava_onevision": None, "llava": None}
    if kind := kinds.get(model.config.model_type, "mm_token_type_ids"):
        model.model.rope_deltas = None  # kept by the model between forwards
        inputs[kind] = (input_ids == IMAGE).int()[None]
    logits = model(
        input_ids=input_ids[None], attention_mask=torch.ones_like(input_ids)[None], use_cache=False, **inputs
    ).logits
    return logits[0, -response_length - 1 : -1]


class Prompts:
    """Three prompts with four rollouts of different length each: one image, two images of different size, text only."""

    def __init__(self, seed: int = 0, response_lengths=(7, 1, 4, 9), family: str = "qwen3_vl"):
        generator = torch.Generator().manual_seed(seed)
        encode = ENCODERS.get(family, patches)
        tokens = {"one": encode([(4, 4)], generator)[1], "two": encode([(4, 6), (2, 4)], generator)[1], "text": []}
        generator = torch.Generator().manual_seed(seed)
        views = {
            "one": [encode([(4, 4)], generator)[0] for _ in range(2)],
            "two": [encode([(4, 6), (2, 4)], generator)[0] for _ in range(2)],
            "text": [None, None],
        }
        self.original = {uid: view[0] for uid, view in views.items() if view[0] is not None}
        self.degraded = {uid: view[1] for uid, view in views.items() if view[1] is not None}
        self.rows = []  # (uid, input_ids, response length), siblings apart from one another
        prompts = {uid: self._prompt(tokens[uid], generator) for uid in views}
        for length in response_lengths:
            for uid in views:
                response = torch.randint(0, 90, (length,), generator=generator)
                self.rows.append((uid, torch.cat([prompts[uid], response]), length))

    @staticmethod
    def _prompt(tokens: list[int], generator):
        parts = [torch.randint(0, 90, (3,), generator=generator)]
        for count in tokens:
            parts += [torch.tensor([VISION_START]), torch.full((count,), IMAGE), torch.tensor([VISION_END])]
        return torch.cat([*parts, torch.randint(0, 90, (4,), generator=generator)])


# Each: random images of a prompt, by their sizes in patches; and how many tokens each becomes.


def patches(grids, generator) -> tuple[ImageInputs, list[int]]:
    """Of Qwen-VL and GLM-4V: four patches become a token."""
    pixels = torch.randn(sum(h * w for h, w in grids), PATCH_DIM, generator=generator)
    return ImageInputs(pixels, torch.tensor([[1, h, w] for h, w in grids])), [h * w // 4 for h, w in grids]


def tiles(grids, generator) -> tuple[ImageInputs, list[int]]:
    """Of InternVL, four tokens each: the first of two images is cut into two."""
    counts = [1] if len(grids) == 1 else [2, 1]
    pixels = torch.randn(sum(counts), 3, IMAGE_SIDE, IMAGE_SIDE, generator=generator)
    return ImageInputs(pixels), [4 * count for count in counts]


def squares(grids, generator) -> tuple[ImageInputs, list[int]]:
    """Of Gemma 3, which makes one square of each image: four tokens."""
    return ImageInputs(torch.randn(len(grids), 3, IMAGE_SIDE, IMAGE_SIDE, generator=generator)), [4] * len(grids)


def wholes(grids, generator) -> tuple[ImageInputs, list[int]]:
    """Of LLaVA: all 16 patches of a square."""
    return ImageInputs(torch.randn(len(grids), 3, IMAGE_SIDE, IMAGE_SIDE, generator=generator)), [16] * len(grids)


def anyres(grids, generator) -> tuple[ImageInputs, list[int]]:
    """Of LLaVA-OneVision, 16 patches a tile: an image alone, 32 x 64 pixels, is its thumbnail and two tiles, whose rows
    of 8 end with a newline token; several are a tile each, with one newline."""
    one = len(grids) == 1
    pixels = torch.randn(len(grids), 3 if one else 1, 3, IMAGE_SIDE, IMAGE_SIDE, generator=generator)
    sizes = torch.tensor([[IMAGE_SIDE, 2 * IMAGE_SIDE]] * len(grids))
    images = ImageInputs(pixels, image_sizes=sizes, batch_num_images=torch.tensor([len(grids)]))
    return images, [16 + 4 * 9] if one else [17] * len(grids)


ENCODERS = {"internvl": tiles, "gemma3": squares, "llava_onevision": anyres, "llava": wholes}
