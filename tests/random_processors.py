"""Processors for checkpoints of ``tests/random_models.py``, of families that make a blank image through one."""

from functools import cache

from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import (
    CLIPImageProcessor,
    LlavaOnevisionImageProcessor,
    LlavaOnevisionProcessor,
    LlavaOnevisionVideoProcessor,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from tests.random_configs import IMAGE, IMAGE_SIDE, VIDEO

SQUARE = {"height": IMAGE_SIDE, "width": IMAGE_SIDE}


def tokenizer() -> PreTrainedTokenizerFast:
    """A hundred words w0 to w99, the placeholders among them."""
    words = {f"w{index}": index for index in range(100) if index not in (IMAGE, VIDEO)}
    model = Tokenizer(WordLevel({**words, "<image>": IMAGE, "<video>": VIDEO}, unk_token="w0"))
    model.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    placeholders = {"image_token": "<image>", "video_token": "<video>"}
    return PreTrainedTokenizerFast(tokenizer_object=model, unk_token="w0", extra_special_tokens=placeholders)


def llava_onevision() -> LlavaOnevisionProcessor:
    pinpoints = [[IMAGE_SIDE, 2 * IMAGE_SIDE], [2 * IMAGE_SIDE, IMAGE_SIDE]]
    return LlavaOnevisionProcessor(
        image_processor=LlavaOnevisionImageProcessor(size=SQUARE, image_grid_pinpoints=pinpoints),
        video_processor=LlavaOnevisionVideoProcessor(size=SQUARE),
        tokenizer=tokenizer(),
        num_image_tokens=16,
        vision_feature_select_strategy="full",
    )


def llava() -> LlavaProcessor:
    return LlavaProcessor(
        image_processor=CLIPImageProcessor(size={"shortest_edge": IMAGE_SIDE}, crop_size=SQUARE),
        tokenizer=tokenizer(),
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )


@cache
def processor_of(family: str | None):
    """None: its package file needs none."""
    made = {each.__name__: each for each in (llava_onevision, llava)}
    return made[family]() if family in made else None
