"""The figures that runs learn from and are measured on."""

import io
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
import torch
from PIL import Image

from verl_vaopd.data.synthetic_geometry import SPLITS, make_row
from verl_vaopd.model.vision import ImageInputs
from verl_vaopd.rollout.image_views import degraded_images, encode_views
from verl_vaopd.tiny.accuracy import chat_prompt
from verl_vaopd.tiny.dilution.conversations import Conversations, question
from verl_vaopd.tiny.dilution.truth import BEFORE, BLANK, tokenizer, visual_tokens
from verl_vaopd.tiny.dilution.words import PHRASE, styles
from verl_vaopd.tiny.figure_batch import to_patches

READING = 20
"""Tokens that surely hold a reading."""


known_row = cache(make_row)
"""A row of a split, drawn once a process."""


def pictures(rows: Sequence[dict]) -> list[Image.Image]:
    return [Image.open(io.BytesIO(row["images"][0]["bytes"])).convert("RGB") for row in rows]


def patches_of(images: list[Image.Image]) -> torch.Tensor:
    """[figures, 64, 192] uint8."""
    return to_patches(np.stack([np.asarray(image) for image in images]))


class Training:
    """Batches of the training split, in an order of the seed's own.

    degrade: makes the second view of an image; None: there is none. shows_degraded: whether it is the student's.
    """

    def __init__(self, processor, words: int, seed: int, degrade=None, shows_degraded: bool = False):
        self.degrade, self.shows_degraded = degrade, shows_degraded
        self.processor = partial(processor, return_tensors="pt")
        self.text = chat_prompt(processor, question(words))
        self.random = random.Random(seed)

    def batch(self, prompts: int) -> tuple[torch.Tensor, dict, dict, list[dict]]:
        """(patches [prompts, 64, 192] of what the student sees; uid -> images as they are, and degraded, nothing where
        there is no second view; rows)."""
        rows = [known_row("train", index) for index in self.random.sample(range(SPLITS["train"]), prompts)]
        images = pictures(rows)
        others = [degraded_images([image], self.degrade) for image in images]
        views = [
            encode_views(self.text, [image], self.processor, other) for image, other in zip(images, others, strict=True)
        ]
        original, degraded = (
            {
                f"{place}": ImageInputs(view[name], view["image_grid_thw"])
                for place, view in enumerate(views)
                if name in view
            }
            for name in ("pixel_values", "pixel_values_degraded")
        )
        shown = [other[0] for other in others] if self.shows_degraded else images
        return patches_of(shown), original, degraded, rows


@dataclass
class HeldOut:
    """Figures of a split with reference answers up to the reading: [B, T] ids, and which are its digits.

    The words before the reading are of the teacher's style in every other figure, of the student's in the rest, so that
    an arm that learns the teacher's style sooner gains nothing by that.
    """

    rows: tuple[dict, ...]
    patches: torch.Tensor
    ids: torch.Tensor
    digits: torch.Tensor

    @classmethod
    def of(cls, talk: Conversations, words: int, split: str, count: int, seed: int, degrade=None) -> "HeldOut":
        """seed: of the models, whose styles these are. degrade: how figures are shown; None: as they are."""
        rows = tuple(known_row(split, index) for index in range(count))
        generator, prompt = torch.Generator().manual_seed(0), talk.prompts[words]
        phrases, known = words // PHRASE, [*styles(seed)]
        answers = []
        for place, row in enumerate(rows):
            notes = known[place % 2].phrases(phrases, generator).view(phrases, PHRASE)
            answers.append(talk.answer(labels_of(row), notes)[: phrases // 2 * PHRASE + READING])
        ids = torch.stack([torch.cat([prompt, answer]) for answer in answers])
        digits = visual_tokens(ids)
        digits[:, : len(prompt)] = False
        shown = [degrade(image) if degrade else image for image in pictures(rows)]
        return cls(rows, patches_of(shown), ids, digits)


def labels_of(row: dict) -> tuple[int, int]:
    """Both numbers of a figure, from its worked answer, which begins with them."""
    first, second = [word.strip(".") for word in row["extra_info"]["answer"].split() if word.strip(".").isdigit()][:2]
    return int(first), int(second)


def misread_tokens(ids: torch.Tensor, labels: tuple[int, int]) -> torch.Tensor:
    """Whether a token is a digit of the reading that is not the figure's.

    Args:
        ids: [T] tokens of one answer. labels: the figure's two numbers, of two digits each.
    Returns:
        [T] bool, some of ``visual_tokens``.
    """
    texts = [tokenizer().decode(token) for token in ids.tolist()]
    found = torch.zeros(len(texts), dtype=torch.bool)
    for place in visual_tokens(ids).nonzero().flatten().tolist():
        is_ones = texts[place - 1] not in BLANK
        label = labels[BEFORE.index(texts[place - is_ones - 2])]
        found[place] = texts[place] != f"{label:02d}"[is_ones]
    return found
