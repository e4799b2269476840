"""A byte-level BPE tokenizer of a few hundred ids with Qwen's special tokens and chat format."""

import json
from collections.abc import Sequence

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import Qwen2Tokenizer
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

from verl_vaopd.data.synthetic_geometry import QUESTIONS, READINGS, worked_answer

END_OF_TEXT, END_OF_TURN, IMAGE, VIDEO = "<|endoftext|>", "<|im_end|>", "<|image_pad|>", "<|video_pad|>"
SPECIAL_TOKENS = (
    END_OF_TEXT,
    "<|im_start|>",
    END_OF_TURN,
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|quad_start|>",
    "<|quad_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    IMAGE,
    VIDEO,
)
BPE_VOCABULARY = 400
GENERAL_TEXTS = (
    "You are a helpful assistant. Please reason step by step, and put your final answer within \\boxed{}.",
    "Find the area of the triangle, the length of the side and the measure of the angle in the figure.",
    "Which of the following is the value of x? Round to the nearest tenth if necessary.",
)

CHAT_TEMPLATE = """\
{%- for message in messages -%}
{{- '<|im_start|>' + message.role + '\\n' -}}
{%- if message.content is string -%}
{{- message.content -}}
{%- else -%}
{%- for part in message.content -%}
{%- if part.type == 'image' -%}
{{- '<|vision_start|><|image_pad|><|vision_end|>' -}}
{%- elif part.type == 'video' -%}
{{- '<|vision_start|><|video_pad|><|vision_end|>' -}}
{%- elif 'text' in part -%}
{{- part.text -}}
{%- endif -%}
{%- endfor -%}
{%- endif -%}
{{- '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|im_start|>assistant\\n' -}}
{%- endif -%}
"""


def make_tokenizer(words: Sequence[str] = ()) -> Qwen2Tokenizer:
    """The same ids on every call: end of text pads, end of turn stops, each digit is one token.

    Ids 0 to ``BPE_VOCABULARY - 1`` are text, the special tokens follow, then ``words``, a token each.
    """
    bpe = Tokenizer(models.BPE())
    bpe.normalizer = normalizers.NFC()
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=BPE_VOCABULARY,
        min_frequency=1,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator(_texts(), trainer)
    model = json.loads(bpe.to_str())["model"]
    assert len(model["vocab"]) == BPE_VOCABULARY, "too few texts to train on"
    tokenizer = Qwen2Tokenizer(
        vocab=model["vocab"],
        merges=[tuple(merge) for merge in model["merges"]],
        unk_token=END_OF_TEXT,
        eos_token=END_OF_TURN,
        pad_token=END_OF_TEXT,
        extra_special_tokens=[token for token in SPECIAL_TOKENS if token not in (END_OF_TEXT, END_OF_TURN)],
        model_max_length=1024,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.add_tokens([AddedToken(word, normalized=False) for word in words])
    return tokenizer


def _texts() -> list[str]:
    """Every template of the data, and general phrases so that other text is not spelt out byte by byte."""
    answers = [worked_answer(first, 23, reading) for first in (14, 39) for reading in READINGS]
    return [*QUESTIONS, *answers, *GENERAL_TEXTS, "system", "user", "assistant"]
