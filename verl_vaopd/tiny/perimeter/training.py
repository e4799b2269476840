"""The teacher of the task, trained as that of the figures: first to see, then to answer.

Legend: B polygons, I = 36 visual tokens, T tokens.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from verl_vaopd.data.perimeter import LABELS, NAMES, QUESTIONS, draw_pool, worked_answer
from verl_vaopd.tiny.accuracy import chat_prompt
from verl_vaopd.tiny.figure_batch import figure_positions, read_aloud, see, to_patches
from verl_vaopd.tiny.models import make_config, make_model
from verl_vaopd.tiny.processor import MERGE_SIZE
from verl_vaopd.tiny.train_teacher import Stage, TeacherSettings, in_rounds, vision_stage

ROUND = 64  # tokens: conversations are padded to few different widths


@dataclass(frozen=True)
class PerimeterSettings(TeacherSettings):
    pool: int = 16_000
    vision_steps: int = 1000
    vision_batch: int = 32
    answer_steps: int = 1800
    answer_batch: int = 16


def train_teacher(processor, seed: int, settings: PerimeterSettings = PerimeterSettings(), enough=lambda model: True):
    """Draw polygons, train both stages, print progress.

    Args:
        enough: as for the figures' teacher.
    Returns:
        The teacher, in eval mode. Equal seeds, settings, library versions and thread counts give equal weights.
    """
    started = time.monotonic()
    model = make_model(make_config(processor.tokenizer, teacher=True), seed, settings.init_std).train()
    print(f"drawing {settings.pool} polygons", flush=True)
    images, numbers, cells = draw_pool("train", settings.pool, seed)
    patches, generator = to_patches(images), torch.Generator().manual_seed(seed)
    torch.set_flush_denormal(True)  # as for the figures' teacher
    try:
        learn_to_see(model, patches, torch.from_numpy(cells), generator, settings, started)
        pool = (patches, numbers, generator)
        in_rounds(
            lambda given: learn_to_answer(model, processor, *pool, given, started), lambda: enough(model), settings
        )
    finally:
        torch.set_flush_denormal(False)
    return model.eval()


def learn_to_see(model, patches: Tensor, cells: Tensor, generator, settings, started: float) -> None:
    """Stage one: a throw-away linear head must name from each visual token the number in its square, and its side."""
    width, classes = model.config.text_config.hidden_size, [LABELS.stop, len(NAMES) + 1]
    head, stage = vision_stage(model, width, sum(classes), generator, settings, started)
    for step in range(settings.vision_steps):
        rows = torch.randint(len(patches), (settings.vision_batch,), generator=generator)
        tokens, _ = see(model.model.visual, patches[rows])
        named = head(tokens).flatten(0, 1).split(classes, dim=-1)
        truths = cells[rows].flatten(0, 1).unbind(-1)
        stage.update(step, sum(F.cross_entropy(*both) for both in zip(named, truths, strict=True)))


class Conversations:
    """Token ids of questions and worked answers about polygons; ``numbers``: those of each."""

    def __init__(self, processor, numbers: list[tuple[int, ...]], visual_tokens: int):
        tokenizer = processor.tokenizer
        seen = processor.image_token * visual_tokens
        texts = [chat_prompt(processor, question).replace(processor.image_token, seen) for question in QUESTIONS]
        self.prompts = [tokenizer(text).input_ids for text in texts]
        self.answers = [tokenizer(worked_answer(each)).input_ids + [tokenizer.eos_token_id] for each in numbers]
        self.pad, self.image_start = tokenizer.pad_token_id, self.prompts[0].index(processor.image_token_id)
        self.visual_tokens = visual_tokens

    def batches(self, rows: list[int], asked: list[int]) -> Iterator[tuple[list[int], Tensor, Tensor, Tensor]]:
        """Question ``asked[b]`` and the answer about polygon ``rows[b]``, those of like length together.

        Yields:
            The rows; ids [B, T], right padded; is_answer [B, T]; positions [3, 1, T] of ``read_aloud``.
        """
        alike: dict[int, list[tuple[int, int]]] = {}
        for row, question in zip(rows, asked, strict=True):
            length = len(self.prompts[question]) + len(self.answers[row])
            alike.setdefault(-(-length // ROUND) * ROUND, []).append((row, question))
        for width, pairs in sorted(alike.items()):
            ids = torch.full((len(pairs), width), self.pad)
            is_answer = torch.zeros(ids.shape, dtype=torch.bool)
            for place, (row, question) in enumerate(pairs):
                prompt, answer = self.prompts[question], self.answers[row]
                end = len(prompt) + len(answer)
                ids[place, :end] = torch.tensor(prompt + answer)
                is_answer[place, len(prompt) : end] = True
            positions = figure_positions(self.image_start, width, self.visual_tokens)
            yield [row for row, _ in pairs], ids, is_answer, positions


def learn_to_answer(model, processor, patches: Tensor, numbers, generator, settings, started: float) -> None:
    """Stage two: mean cross-entropy of the answer tokens, the question drawn anew at every step."""
    talk = Conversations(processor, numbers, patches.shape[1] // MERGE_SIZE**2)
    stage = Stage("answers", model.parameters(), settings.answer_steps, settings.answer_lr, settings, started)
    for step in range(settings.answer_steps):
        rows, asked = (
            torch.randint(count, (settings.answer_batch,), generator=generator).tolist()
            for count in (len(patches), len(QUESTIONS))
        )
        total, count = torch.zeros(()), 0
        for some, ids, is_answer, positions in talk.batches(rows, asked):
            hidden = read_aloud(model, patches[some], ids, talk.image_start, positions)
            logits = model.lm_head(hidden[:, :-1][is_answer[:, 1:]])
            total = total + F.cross_entropy(logits, ids[:, 1:][is_answer[:, 1:]], reduction="sum")
            count += len(logits)
        stage.update(step, total / count)
