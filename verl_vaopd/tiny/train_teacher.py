"""The teacher, trained from scratch in two stages.

First the vision tower alone, with a throw-away linear head that names the four digits; without this stage the model
learns phrasing and arithmetic but not reading. Then supervised fine-tuning of everything on worked answers.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F

from verl_vaopd.data.synthetic_geometry import draw_pool, pairs_of
from verl_vaopd.tiny.figure_batch import VISUAL_TOKENS, Conversations, read_aloud, see, to_patches
from verl_vaopd.tiny.models import make_config, make_model

MORE_ROUNDS = 2


@dataclass(frozen=True)
class TeacherSettings:
    """How the teacher is trained; changing any of these makes a new teacher."""

    pool: int = 16_000
    """Figures drawn for training."""
    init_std: float = 0.06
    """Spread of the initial weights."""
    vision_steps: int = 800
    vision_batch: int = 64
    vision_lr: float = 2e-3
    answer_steps: int = 600
    answer_batch: int = 32
    answer_lr: float = 2e-3
    weight_decay: float = 0.01
    warmup: float = 0.1
    """Share of each stage's steps in which the learning rate rises; it then falls along a cosine."""
    report_every: int = 200


class Stage:
    """An optimiser with its schedule, and progress lines: stage, step, loss, seconds since the start."""

    def __init__(self, name, parameters, steps, lr, settings: TeacherSettings, started: float):
        self.name, self.steps, self.started, self.every = name, steps, started, settings.report_every
        self.parameters = list(parameters)
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=lr, betas=(0.9, 0.98), weight_decay=settings.weight_decay
        )
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, lr, total_steps=steps, pct_start=settings.warmup, cycle_momentum=False
        )

    def update(self, step: int, loss: torch.Tensor) -> None:
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.schedule.step()
        if (step + 1) % self.every == 0 or step + 1 == self.steps:
            elapsed = time.monotonic() - self.started
            print(f"{self.name}: step {step + 1}/{self.steps}, loss {loss.item():.3f}, {elapsed:.0f} s", flush=True)


def vision_stage(model, width: int, classes: int, generator, settings: TeacherSettings, started: float):
    """A throw-away linear head [width to classes], and the stage that trains it with the vision tower."""
    head = torch.nn.Linear(width, classes)
    torch.nn.init.normal_(head.weight, std=width**-0.5, generator=generator)
    torch.nn.init.zeros_(head.bias)
    parameters = [*model.model.visual.parameters(), *head.parameters()]
    return head, Stage("vision", parameters, settings.vision_steps, settings.vision_lr, settings, started)


def in_rounds(learn: Callable[[TeacherSettings], None], enough: Callable[[], bool], settings: TeacherSettings) -> None:
    """``learn(settings)``; then, unless ``enough()``, a third as long at half the rate, at most ``MORE_ROUNDS`` times.

    Processors round differently, so what is enough on one may just not be on another.
    """
    learn(settings)
    steps, rate = max(1, settings.answer_steps // 3), settings.answer_lr / 2
    for _ in range(MORE_ROUNDS):
        if enough():
            return
        print(f"answers: {steps} steps more", flush=True)
        learn(replace(settings, answer_steps=steps, answer_lr=rate))


def train_teacher(processor, seed: int, settings: TeacherSettings | None = None, enough=lambda model: True):
    """Draw figures, train both stages, print progress.

    Args:
        enough: whether the teacher may stay as it is, see :func:`in_rounds`.
    Returns:
        The teacher, in eval mode. Equal seeds, settings, library versions and thread counts give equal weights.
    """
    settings = settings or TeacherSettings()
    started = time.monotonic()
    model = make_model(make_config(processor.tokenizer, teacher=True), seed, settings.init_std).train()
    print(f"drawing {settings.pool} figures", flush=True)
    images, labels = draw_pool("train", settings.pool, seed)
    patches, labels = to_patches(images), torch.from_numpy(labels)
    generator = torch.Generator().manual_seed(seed)
    # Softmax and Adam leave numbers below 1e-38 for tokens that never occur: ten times slower on a CPU, and no use.
    torch.set_flush_denormal(True)
    try:
        learn_to_see(model, patches, labels, generator, settings, started)
        pool = (patches, labels, generator)
        in_rounds(
            lambda given: learn_to_answer(model, processor, *pool, given, started), lambda: enough(model), settings
        )
    finally:
        torch.set_flush_denormal(False)
    return model.eval()


def learn_to_see(model, patches, labels, generator, settings: TeacherSettings, started: float) -> None:
    """Stage one: the linear head must name tens and ones of both labels from the visual tokens."""
    digits = torch.stack([labels // 10, labels % 10], dim=-1).flatten(1)  # [pool, 4]
    width = VISUAL_TOKENS * model.config.text_config.hidden_size
    head, stage = vision_stage(model, width, 4 * 10, generator, settings, started)
    for step in range(settings.vision_steps):
        rows = torch.randint(len(patches), (settings.vision_batch,), generator=generator)
        tokens, _ = see(model.model.visual, patches[rows])
        logits = head(tokens.flatten(1)).view(-1, 10)
        stage.update(step, F.cross_entropy(logits, digits[rows].flatten()))


def learn_to_answer(model, processor, patches, labels, generator, settings: TeacherSettings, started: float) -> None:
    """Stage two: mean cross-entropy of the answer tokens, question and phrasing drawn anew at every step."""
    numbers = pairs_of("train")
    talk = Conversations(processor, numbers)
    place = torch.tensor([talk.index[tuple(pair)] for pair in labels.tolist()])
    stage = Stage("answers", model.parameters(), settings.answer_steps, settings.answer_lr, settings, started)
    for step in range(settings.answer_steps):
        rows = torch.randint(len(patches), (settings.answer_batch,), generator=generator)
        style = torch.randint(talk.styles, (settings.answer_batch,), generator=generator)
        conversation = style * len(numbers) + place[rows]
        ids, is_answer = talk.ids[conversation], talk.is_answer[conversation]
        hidden = read_aloud(model, patches[rows], ids, talk.image_start, talk.positions)
        logits = model.lm_head(hidden[:, :-1][is_answer[:, 1:]])
        stage.update(step, F.cross_entropy(logits, ids[:, 1:][is_answer[:, 1:]]))
