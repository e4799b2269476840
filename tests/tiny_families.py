"""Untrained checkpoints of other families with tokenizer and processor, as the whole stack and vLLM read them."""

import json
from pathlib import Path

import torch
from transformers import (
    AutoModelForImageTextToText,
    Gemma3ImageProcessor,
    Gemma3Processor,
    GenerationConfig,
    GotOcr2ImageProcessor,
    InternVLProcessor,
    InternVLVideoProcessor,
    LlavaOnevisionImageProcessor,
    LlavaOnevisionProcessor,
    LlavaOnevisionVideoProcessor,
    Qwen2_5_VLProcessor,
    Qwen2Tokenizer,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
)

from tests.random_configs import CONFIGS, IMAGE_SIDE
from tests.random_models import save_as_on_the_hub
from verl_vaopd.tiny.processor import MAX_PIXELS, MIN_PIXELS, make_processor
from verl_vaopd.tiny.tokenizer import CHAT_TEMPLATE, END_OF_TEXT, END_OF_TURN, IMAGE, VIDEO, make_tokenizer

PATCHES = dict(patch_size=8, merge_size=2, temporal_patch_size=2)


def qwen_vl_processor() -> Qwen2_5_VLProcessor:
    size = {"shortest_edge": MIN_PIXELS, "longest_edge": MAX_PIXELS}
    return Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(size=size, **PATCHES),
        tokenizer=make_tokenizer(),
        video_processor=Qwen2VLVideoProcessor(size={"shortest_edge": 4096, "longest_edge": 4 * MAX_PIXELS}, **PATCHES),
        chat_template=CHAT_TEMPLATE,
    )


def tokenizer_with(placeholder: str, names: dict[str, str], more: tuple[str, ...] = ()) -> Qwen2Tokenizer:
    """The tiny tokenizer with tokens of a family by ``names``, and ``more``; ``placeholder`` stands for an image in a
    chat."""
    bpe = json.loads(make_tokenizer().backend_tokenizer.to_str())["model"]
    tokenizer = Qwen2Tokenizer(
        vocab=bpe["vocab"],
        merges=[tuple(merge) for merge in bpe["merges"]],
        unk_token=END_OF_TEXT,
        eos_token=END_OF_TURN,
        pad_token=END_OF_TEXT,
        extra_special_tokens={"turn_start": "<|im_start|>", **names},
        model_max_length=1024,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.add_tokens(list(more))
    tokenizer.chat_template = CHAT_TEMPLATE.replace(f"<|vision_start|>{IMAGE}<|vision_end|>", placeholder)
    return tokenizer


SQUARE = {"height": IMAGE_SIDE, "width": IMAGE_SIDE}


def internvl_processor() -> InternVLProcessor:
    """Tiles of 32 x 32 pixels, four tokens each; the placeholder in a chat is <IMG_CONTEXT>."""
    own = {
        "start_image_token": "<img>",
        "end_image_token": "</img>",
        "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",  # vLLM takes it for a regular expression, so no "|"
    }
    tokenizer = tokenizer_with("<IMG_CONTEXT>", own)
    return InternVLProcessor(
        image_processor=GotOcr2ImageProcessor(size=SQUARE, crop_to_patches=True, min_patches=1, max_patches=4),
        tokenizer=tokenizer,
        video_processor=InternVLVideoProcessor(size=SQUARE),
        image_seq_length=4,
        chat_template=tokenizer.chat_template,
    )


def gemma3_processor() -> Gemma3Processor:
    """Squares of 32 x 32 pixels, four tokens each, between empty lines; the placeholder in a chat begins an image."""
    own = {"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>"}
    tokenizer = tokenizer_with("<start_of_image>", own, ("\n", "\n\n", "\n\n\n", "\n\n\n\n"))
    return Gemma3Processor(
        image_processor=Gemma3ImageProcessor(size=SQUARE),
        tokenizer=tokenizer,
        image_seq_length=4,
        chat_template=tokenizer.chat_template,
    )


def llava_onevision_processor() -> LlavaOnevisionProcessor:
    tokenizer = tokenizer_with("<image>", {"image_token": "<image>", "video_token": "<video>"})
    pinpoints = [[IMAGE_SIDE, 2 * IMAGE_SIDE], [2 * IMAGE_SIDE, IMAGE_SIDE]]
    return LlavaOnevisionProcessor(
        image_processor=LlavaOnevisionImageProcessor(size=SQUARE, image_grid_pinpoints=pinpoints),
        video_processor=LlavaOnevisionVideoProcessor(size=SQUARE),
        tokenizer=tokenizer,
        num_image_tokens=16,
        vision_feature_select_strategy="full",
        chat_template=tokenizer.chat_template,
    )


PROCESSORS = {
    "qwen3_vl_moe": make_processor,
    "qwen2_5_vl": qwen_vl_processor,
    "qwen2_vl": qwen_vl_processor,
    "internvl": internvl_processor,
    "gemma3": gemma3_processor,
    "llava_onevision": llava_onevision_processor,
}


OF_QWEN = {
    "video_token_id": VIDEO,
    "vision_start_token_id": "<|vision_start|>",
    "vision_end_token_id": "<|vision_end|>",
}
OTHER_TOKENS = {
    "internvl": {},
    "gemma3": {"boi_token_index": "<start_of_image>", "eoi_token_index": "<end_of_image>"},
    "llava_onevision": {"video_token_index": "<video>"},
}
"""What the configs call tokens beside the image's."""


def make_tiny(path: Path, family: str, hidden: int, tied: bool, seed: int) -> Path:
    """Heads of a quarter of ``hidden``, which vLLM wants to be 32 or more; answers far from uniform."""
    processor = PROCESSORS[family]()
    tokenizer = processor.tokenizer
    config = CONFIGS[family](hidden, layers=2, head_rows=-(-len(tokenizer) // 64) * 64, tied=tied)
    config.image_token_id = processor.image_token_id
    for name, token in OTHER_TOKENS.get(family, OF_QWEN).items():
        setattr(config, name, tokenizer.convert_tokens_to_ids(token))
    if family == "gemma3":
        config.text_config.head_dim = hidden // 4
    config.text_config.eos_token_id, config.text_config.pad_token_id = tokenizer.eos_token_id, tokenizer.pad_token_id
    torch.manual_seed(seed)
    model = AutoModelForImageTextToText.from_config(config).float().eval()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.1)
    model.generation_config = GenerationConfig(eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id)
    save_as_on_the_hub(model, path)
    processor.save_pretrained(path)
    return path
