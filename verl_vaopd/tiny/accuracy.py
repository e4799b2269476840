"""Greedy and sampled answers of a tiny model to figures, scored by their last boxed number."""

import re

import numpy as np
import torch
from PIL import Image

from verl_vaopd.data.synthetic_geometry import QUESTIONS
from verl_vaopd.tiny.tokenizer import SPECIAL_TOKENS

MAX_NEW_TOKENS = 64


@torch.no_grad()
def answers(model, processor, images: np.ndarray, sample: bool = False, batch: int = 100) -> list[str]:
    """One answer for each of [B, 64, 64, 3] uint8 images; questions take turns.

    Args:
        sample: draw at temperature 0.7 and top-p 0.95 from torch's global generator, instead of greedily.
    """
    tokenizer = processor.tokenizer
    banned = [tokenizer.convert_tokens_to_ids(token) for token in SPECIAL_TOKENS if token != tokenizer.eos_token]
    choice = dict(do_sample=True, temperature=0.7, top_p=0.95) if sample else dict(do_sample=False)
    texts = []
    for start in range(0, len(images), batch):
        figures = [Image.fromarray(image) for image in images[start : start + batch]]
        prompts = []
        for index in range(start, start + len(figures)):
            question = {"type": "text", "text": QUESTIONS[index % len(QUESTIONS)]}
            message = {"role": "user", "content": [{"type": "image"}, question]}
            prompts.append(processor.apply_chat_template([message], add_generation_prompt=True, tokenize=False))
        inputs = processor(text=prompts, images=figures, return_tensors="pt", padding=True, padding_side="left")
        model.model.rope_deltas = None  # kept by the model between calls
        generated = model.generate(
            **inputs, max_new_tokens=MAX_NEW_TOKENS, suppress_tokens=banned, top_k=None, **choice
        )
        texts += tokenizer.batch_decode(generated[:, inputs.input_ids.shape[1] :], skip_special_tokens=True)
    return texts


def accuracy(texts: list[str], labels: np.ndarray) -> float:
    """Share of answers whose last boxed number is the sum of the two labels [B, 2]."""
    boxed = [re.findall(r"\\boxed\{(\d+)\}", text) for text in texts]
    right = [bool(found) and int(found[-1]) == total for found, total in zip(boxed, labels.sum(1), strict=True)]
    return float(np.mean(right))


def digits_read(texts: list[str], labels: np.ndarray) -> float:
    """Share of the four label digits that the answer's first two numbers repeat: a smoother measure than accuracy."""
    right = 0
    for text, (first, second) in zip(texts, labels.tolist(), strict=True):
        read = re.findall(r"\d+", text)[:2]
        right += sum(a == b for given, true in zip(read, (first, second)) for a, b in zip(given, str(true)))
    return right / (4 * len(texts))
