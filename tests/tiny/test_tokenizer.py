"""Qwen's tokenizer in small: bytes, single digits, special ids behind the text ids, chat format."""

import pytest
from transformers import AutoTokenizer

from verl_vaopd.data.synthetic_geometry import QUESTIONS, READINGS, worked_answer
from verl_vaopd.tiny.tokenizer import BPE_VOCABULARY, SPECIAL_TOKENS, make_tokenizer


@pytest.mark.parametrize(
    "text", [*QUESTIONS, worked_answer(19, 48), "Ümläut, 日本語, \t tabs\n and 123 × 45.6 😀", "  two  spaces "]
)
def test_round_trip(tokenizer, text):
    assert tokenizer.decode(tokenizer(text).input_ids) == text


def test_digits_are_single_tokens(tokenizer):
    text = "48 and 4907, x=12.5"
    pieces = [tokenizer.decode([token]) for token in tokenizer(text).input_ids]
    assert [piece for piece in pieces if any(map(str.isdigit, piece))] == list("484907125")


def test_answers_stay_below_60_tokens(tokenizer):
    assert max(len(tokenizer(worked_answer(49, 49, reading)).input_ids) for reading in READINGS) < 60


def test_special_tokens_are_single_ids_behind_the_text(tokenizer):
    ids = [tokenizer(token).input_ids for token in SPECIAL_TOKENS]
    assert sorted(ids) == [[BPE_VOCABULARY + place] for place in range(len(SPECIAL_TOKENS))]
    assert sorted(tokenizer.all_special_tokens) == sorted(SPECIAL_TOKENS)
    assert len(tokenizer) == BPE_VOCABULARY + len(SPECIAL_TOKENS)
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|endoftext|>")


def test_every_call_and_a_saved_copy_give_the_same_ids(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert make_tokenizer().get_vocab() == tokenizer.get_vocab() == loaded.get_vocab()
    assert loaded.chat_template == tokenizer.chat_template
    text = "<|im_start|>user\n" + worked_answer(31, 42) + "<|im_end|>"
    assert loaded(text).input_ids == tokenizer(text).input_ids


def test_chat_template_with_image(tokenizer):
    content = [{"type": "image"}, {"type": "text", "text": "How long?"}]
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
    )
    assert text == (
        "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>How long?<|im_end|>\n<|im_start|>assistant\n"
    )


def test_chat_template_with_text_only(tokenizer):
    chat = [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
    ]
    assert tokenizer.apply_chat_template(chat, tokenize=False) == (
        "<|im_start|>system\nBe short.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
        "<|im_start|>assistant\nHello<|im_end|>\n"
    )
