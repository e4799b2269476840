"""Untrained checkpoints of other families with tokenizer and processor, as the whole stack and vLLM read them."""

import json
from pathlib import Path

import torch
from transformers import (
    AutoModelForImageTextToText,
    GenerationConfig,
    GotOcr2ImageProcessor,
    InternVLProcessor,
    InternVLVideoProcessor,
    Qwen2_5_VLProcessor,
    Qwen2Tokenizer,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
)

from tests.random_configs import CONFIGS, IMAGE_SIDE
from verl_vaopd.tiny.processor import MAX_PIXELS, MIN_PIXELS, make_processor
from verl_vaopd.tiny.tokenizer import CHAT_TEMPLATE, END_OF_TEXT, END_OF_TURN, IMAGE, make_tokenizer

PATCHES = dict(patch_size=8, merge_size=2, temporal_patch_size=2)


def qwen_vl_processor() -> Qwen2_5_VLProcessor:
    size = {"shortest_edge": MIN_PIXELS, "longest_edge": MAX_PIXELS}
    return Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(size=size, **PATCHES),
        tokenizer=make_tokenizer(),
        video_processor=Qwen2VLVideoProcessor(size={"shortest_edge": 4096, "longest_edge": 4 * MAX_PIXELS}, **PATCHES),
        chat_template=CHAT_TEMPLATE,
    )


def internvl_processor() -> InternVLProcessor:
    """Tiles of 32 x 32 pixels, four tokens each; the placeholder in a chat is <IMG_CONTEXT>."""
    own = {
        "start_image_token": "<img>",
        "end_image_token": "</img>",
        "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",  # vLLM takes it for a regular expression, so no "|"
    }
    bpe = json.loads(make_tokenizer().backend_tokenizer.to_str())["model"]
    tokenizer = Qwen2Tokenizer(
        vocab=bpe["vocab"],
        merges=[tuple(merge) for merge in bpe["merges"]],
        unk_token=END_OF_TEXT,
        eos_token=END_OF_TURN,
        pad_token=END_OF_TEXT,
        extra_special_tokens={"turn_start": "<|im_start|>", **own},
        model_max_length=1024,
        clean_up_tokenization_spaces=False,
    )
    template = CHAT_TEMPLATE.replace(f"<|vision_start|>{IMAGE}<|vision_end|>", "<IMG_CONTEXT>")
    tokenizer.chat_template = template
    return InternVLProcessor(
        image_processor=GotOcr2ImageProcessor(
            size={"height": IMAGE_SIDE, "width": IMAGE_SIDE}, crop_to_patches=True, min_patches=1, max_patches=4
        ),
        tokenizer=tokenizer,
        video_processor=InternVLVideoProcessor(size={"height": IMAGE_SIDE, "width": IMAGE_SIDE}),
        image_seq_length=4,
        chat_template=template,
    )


PROCESSORS = {
    "qwen3_vl_moe": make_processor,
    "qwen2_5_vl": qwen_vl_processor,
    "qwen2_vl": qwen_vl_processor,
    "internvl": internvl_processor,
}


def make_tiny(path: Path, family: str, hidden: int, tied: bool, seed: int) -> Path:
    """Heads of a quarter of ``hidden``, which vLLM wants to be 32 or more; answers far from uniform."""
    processor = PROCESSORS[family]()
    tokenizer = processor.tokenizer
    config = CONFIGS[family](hidden, layers=2, head_rows=-(-len(tokenizer) // 64) * 64, tied=tied)
    config.image_token_id = processor.image_token_id
    if family != "internvl":
        config.video_token_id = processor.video_token_id
        config.vision_start_token_id = tokenizer.convert_tokens_to_ids("<|vision_start|>")
        config.vision_end_token_id = tokenizer.convert_tokens_to_ids("<|vision_end|>")
    config.text_config.eos_token_id, config.text_config.pad_token_id = tokenizer.eos_token_id, tokenizer.pad_token_id
    torch.manual_seed(seed)
    model = AutoModelForImageTextToText.from_config(config).float().eval()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.1)
    model.generation_config = GenerationConfig(eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id)
    model.save_pretrained(path)
    processor.save_pretrained(path)
    return path
