"""Answers of a tiny model to rows of the data, scored by their last boxed number."""

import io
import re

import torch
from PIL import Image

from verl_vaopd.tiny.tokenizer import SPECIAL_TOKENS

MAX_NEW_TOKENS = 64
BATCH = 100
BOXED = re.compile(r"\\boxed\{(\d+)\}")


@torch.no_grad()
def answers(
    model,
    processor,
    rows: list[dict],
    view=lambda image: image,
    sample: bool = False,
    max_new_tokens: int = MAX_NEW_TOKENS,
) -> list[str]:
    """One answer for each row of the synthetic data, without special tokens.

    Args:
        view: applied to the PIL image of every row.
        sample: draw at temperature 0.7 and top-p 0.95 from torch's global generator, instead of greedily.
    """
    tokenizer = processor.tokenizer
    banned = [tokenizer.convert_tokens_to_ids(token) for token in SPECIAL_TOKENS if token != tokenizer.eos_token]
    choice = dict(do_sample=True, temperature=0.7, top_p=0.95, top_k=0) if sample else dict(do_sample=False)
    texts = []
    for start in range(0, len(rows), BATCH):
        some = rows[start : start + BATCH]
        figures = [view(Image.open(io.BytesIO(row["images"][0]["bytes"]))) for row in some]
        prompts = [chat_prompt(processor, row["extra_info"]["question"]) for row in some]
        inputs = processor(text=prompts, images=figures, return_tensors="pt", padding=True, padding_side="left")
        model.model.rope_deltas = None  # kept by the model between calls
        generated = model.generate(**inputs, max_new_tokens=max_new_tokens, suppress_tokens=banned, **choice)
        texts += tokenizer.batch_decode(generated[:, inputs.input_ids.shape[1] :], skip_special_tokens=True)
    return texts


def chat_prompt(processor, question: str) -> str:
    """The chat text of a question about one image, up to where the answer begins."""
    message = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}
    return processor.apply_chat_template([message], add_generation_prompt=True, tokenize=False)


def accuracy(texts: list[str], rows: list[dict]) -> float:
    """Share of answers whose last boxed number is the row's ground truth."""
    right = 0
    for text, row in zip(texts, rows, strict=True):
        right += BOXED.findall(text)[-1:] == [row["reward_model"]["ground_truth"]]
    return right / len(rows)
