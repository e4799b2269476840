"""Tiny Qwen3-VL models: real architecture, a few hundred thousand parameters."""

from pathlib import Path

import torch
from transformers import GenerationConfig, Qwen3VLConfig, Qwen3VLForConditionalGeneration, Qwen3VLProcessor

from verl_vaopd.tiny.processor import MERGE_SIZE, PATCH_SIZE, TEMPORAL_PATCH_SIZE, make_processor

HIDDEN, VISION_HIDDEN = 128, 64
HEAD_MULTIPLE = 64
TEACHER_EXTRA_ROWS = 64  # head rows the teacher has more than the student, as between two sizes of a real family


def head_rows(ids: int, teacher: bool) -> int:
    """Rows of lm_head for a tokenizer of ``ids`` ids: padded, and by more for the teacher."""
    return -(-ids // HEAD_MULTIPLE) * HEAD_MULTIPLE + (TEACHER_EXTRA_ROWS if teacher else 0)


def make_config(tokenizer, teacher: bool, hidden: int = HIDDEN, vision_hidden: int = VISION_HIDDEN) -> Qwen3VLConfig:
    """Two text and two vision layers, one deepstack feature, tied embeddings, heads of 32 (text).

    Raises:
        ValueError: a width that is not a multiple of 32.
    """
    if hidden % 32 or vision_hidden % 32:
        raise ValueError(f"hidden sizes must be multiples of 32, got {hidden} and {vision_hidden}")
    ids = {token: tokenizer.convert_tokens_to_ids(f"<|{token}|>") for token in ("image_pad", "video_pad")}
    return Qwen3VLConfig(
        text_config=dict(
            vocab_size=head_rows(len(tokenizer), teacher),
            hidden_size=hidden,
            intermediate_size=3 * hidden,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=32,
            max_position_embeddings=2048,
            rope_parameters=dict(
                rope_type="default", rope_theta=10000.0, mrope_section=[8, 4, 4], mrope_interleaved=True
            ),
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        ),
        vision_config=dict(
            depth=2,
            hidden_size=vision_hidden,
            intermediate_size=4 * vision_hidden,
            num_heads=vision_hidden // 16,
            patch_size=PATCH_SIZE,
            spatial_merge_size=MERGE_SIZE,
            temporal_patch_size=TEMPORAL_PATCH_SIZE,
            out_hidden_size=hidden,
            num_position_embeddings=64,
            deepstack_visual_indexes=[0],
        ),
        image_token_id=ids["image_pad"],
        video_token_id=ids["video_pad"],
        vision_start_token_id=tokenizer.convert_tokens_to_ids("<|vision_start|>"),
        vision_end_token_id=tokenizer.convert_tokens_to_ids("<|vision_end|>"),
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=True,
    )


def make_model(config: Qwen3VLConfig, seed: int, std: float | None = None) -> Qwen3VLForConditionalGeneration:
    """An untrained model in fp32 and eval mode.

    Args:
        std: redraw every matrix from a normal of this spread, for next-token distributions far from uniform;
            None keeps the architecture's own initialisation.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen3VLForConditionalGeneration(config).float().eval()
        if std is not None:
            for parameter in model.parameters():
                if parameter.dim() > 1:
                    torch.nn.init.normal_(parameter, std=std)
    model.generation_config = GenerationConfig(
        eos_token_id=config.text_config.eos_token_id, pad_token_id=config.text_config.pad_token_id
    )
    return model


def save_model(model: Qwen3VLForConditionalGeneration, processor: Qwen3VLProcessor, path: str | Path) -> Path:
    """Write a folder that AutoProcessor, AutoTokenizer and AutoModelForImageTextToText read. Returns the path."""
    model.save_pretrained(path)
    processor.save_pretrained(path)
    return Path(path)


def random_models(
    output_dir: str | Path,
    seed: int = 0,
    student_hidden: int = 64,
    teacher_hidden: int = 128,
    std: float = 0.15,
    processor: Qwen3VLProcessor | None = None,
) -> tuple[Path, Path]:
    """Write an untrained student and teacher of different width and head padding, with the same processor (None: that
    of the figures).

    Returns:
        The folders of student and teacher.
    """
    processor = processor or make_processor()
    folders = []
    for name, hidden in (("student", student_hidden), ("teacher", teacher_hidden)):
        config = make_config(processor.tokenizer, name == "teacher", hidden, vision_hidden=hidden // 2)
        model = make_model(config, seed + (name == "teacher"), std)
        folders.append(save_model(model, processor, Path(output_dir) / name))
    return folders[0], folders[1]
