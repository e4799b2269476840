"""The teacher learns to read and to note in its style; the student, from there, to note in another."""

import copy
import time
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from verl_vaopd.data.synthetic_geometry import draw_pool
from verl_vaopd.tiny.dilution.conversations import Conversations
from verl_vaopd.tiny.dilution.words import LENGTHS, Style
from verl_vaopd.tiny.figure_batch import read_aloud, to_patches
from verl_vaopd.tiny.models import make_config, make_model
from verl_vaopd.tiny.train_teacher import Stage, TeacherSettings, in_rounds, learn_to_see


@dataclass(frozen=True)
class NotingSettings(TeacherSettings):
    """``answer_*``: of the teacher's second stage."""

    answer_steps: int = 1000
    style_steps: int = 350
    """Of the student, on its own style."""
    style_lr: float = 1e-3
    turns: tuple[int, ...] = (0, 160, 0, 40, 160)
    """Words of one step's answers after the other."""
    batches: tuple[int, ...] = (32, 24, 16)
    """Figures of a step, for each of ``LENGTHS``."""


def train(
    processor,
    styles: tuple[Style, Style],
    seed: int,
    settings: NotingSettings | None = None,
    enough=lambda model: True,
):
    """Draw figures, train, print progress.

    Args:
        enough: as for the figures' teacher.
    Returns:
        The teacher, and what becomes the student: it reads as well and has the other style; both in eval mode.
    """
    settings, started = settings or NotingSettings(), time.monotonic()
    model = make_model(make_config(processor.tokenizer, teacher=True), seed, settings.init_std).train()
    images, labels = draw_pool("train", settings.pool, seed)
    figures = to_patches(images), torch.from_numpy(labels)
    generator = torch.Generator().manual_seed(seed)
    torch.set_flush_denormal(True)  # as for the figures' teacher
    try:
        learn_to_see(model, *figures, generator, settings, started)

        def learn(given: NotingSettings) -> None:
            stage = Stage("answers", model.parameters(), given.answer_steps, given.answer_lr, given, started)
            learn_to_note(model, processor, *figures, styles[0], generator, given, stage)

        in_rounds(learn, lambda: enough(model), settings)
        other = restyled(model, processor, figures, styles[1], seed, settings, started)
    finally:
        torch.set_flush_denormal(False)
    return model.eval(), other.eval()


def restyled(model, processor, figures, style: Style, seed: int, settings: NotingSettings, started: float):
    """A copy of the teacher that has learnt another style. figures: patches and labels; draws of its own."""
    other, generator = copy.deepcopy(model), torch.Generator().manual_seed(seed + 1)
    stage = Stage("style", other.parameters(), settings.style_steps, settings.style_lr, settings, started)
    learn_to_note(other, processor, *figures, style, generator, settings, stage)
    return other


def learn_to_note(model, processor, patches, labels, style: Style, generator, settings, stage: Stage) -> None:
    """Mean cross-entropy of the answer tokens; figures and words drawn anew at every step."""
    talk, sizes = Conversations(processor), dict(zip(LENGTHS, settings.batches, strict=True))
    for step in range(stage.steps):
        words = settings.turns[step % len(settings.turns)]
        rows = torch.randint(len(patches), (sizes[words],), generator=generator)
        pairs = [tuple(pair) for pair in labels[rows].tolist()]
        ids, is_answer, positions = talk.batch(pairs, words, style, generator)
        hidden = read_aloud(model, patches[rows], ids, talk.image_start, positions)
        logits = model.lm_head(hidden[:, :-1][is_answer[:, 1:]])
        stage.update(step, F.cross_entropy(logits, ids[:, 1:][is_answer[:, 1:]]))
