"""The image side of the tiny models: Qwen3-VL's own processor with small patches."""

from collections.abc import Sequence

from transformers import Qwen2VLImageProcessor, Qwen3VLProcessor, Qwen3VLVideoProcessor

from verl_vaopd.tiny.tokenizer import CHAT_TEMPLATE, make_tokenizer

PATCH_SIZE, MERGE_SIZE, TEMPORAL_PATCH_SIZE = 8, 2, 2
MIN_PIXELS, MAX_PIXELS = 32 * 32, 256 * 256
# The figures are dark lines on pale paper: paper near zero is what a small vision tower learns to read.
IMAGE_MEAN, IMAGE_STD = [0.94] * 3, [0.3] * 3


def make_processor(words: Sequence[str] = ()) -> Qwen3VLProcessor:
    """Qwen3-VL's processor: a 64 x 64 image is 64 patches and 16 visual tokens; ``words`` as of ``make_tokenizer``.

    Sides are rounded to multiples of 16 pixels and areas kept within ``MIN_PIXELS`` to ``MAX_PIXELS``
    (``shortest_edge`` and ``longest_edge`` of this image processor are areas).
    """
    shared = dict(
        patch_size=PATCH_SIZE,
        merge_size=MERGE_SIZE,
        temporal_patch_size=TEMPORAL_PATCH_SIZE,
        image_mean=IMAGE_MEAN,
        image_std=IMAGE_STD,
    )
    return Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessor(size={"shortest_edge": MIN_PIXELS, "longest_edge": MAX_PIXELS}, **shared),
        tokenizer=make_tokenizer(words),
        video_processor=Qwen3VLVideoProcessor(
            size={"shortest_edge": 4 * MIN_PIXELS, "longest_edge": 4 * MAX_PIXELS}, **shared
        ),
        chat_template=CHAT_TEMPLATE,
    )
