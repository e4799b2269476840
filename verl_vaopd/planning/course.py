"""The course of a run: its steps, validations and checkpoints, their predicted seconds and their bytes on disk."""

import math
from dataclasses import dataclass, replace

from verl_vaopd.costs.devices import Device
from verl_vaopd.costs.shapes import FP32
from verl_vaopd.costs.workload import Workload
from verl_vaopd.planning.checkpoints import checkpoint_bytes, kept_at_most
from verl_vaopd.planning.lengths import Draw
from verl_vaopd.planning.memory import Settings
from verl_vaopd.planning.recipe import held_out_problems, mode_of, training_rows, usual_step, waiting_for
from verl_vaopd.planning.waiting import Forecast
from verl_vaopd.settings.compose import planned_steps
from verl_vaopd.settings.steps import check_steps

CHECKPOINT_WRITE = 1e9
"""Assumed bytes/s at which a checkpoint is written."""


@dataclass(frozen=True)
class Course:
    """What a run does, in counts; seconds are of one step (by phase) and of one validation."""

    rows: int
    """Of the training data."""
    steps: int
    seconds: dict[str, float]
    validations: int
    problems: int
    samples: int
    """Of each problem."""
    validation: float
    saves: int
    checkpoint: float
    """Bytes of one."""
    kept: int
    exported: float
    """Bytes of the student in Hugging Face's format."""
    waiting: Forecast | None
    """What generation is like, where the student samples."""

    @property
    def step(self) -> float:
        return sum(self.seconds.values())

    @property
    def total(self) -> float:
        """Seconds of the run."""
        return self.steps * self.step + self.validations * self.validation + self.writing

    @property
    def writing(self) -> float:
        """Seconds of all checkpoints."""
        return self.saves * self.checkpoint / CHECKPOINT_WRITE

    @property
    def disk(self) -> float:
        """Bytes: the checkpoints that stay, one more while it is written, the exported student."""
        return (self.kept + 1) * self.checkpoint + self.exported if self.saves else 0.0


def course_of(config, plan: Settings, device: Device, lengths: dict[str, float], draw: Draw, network: float) -> Course:
    """Of a run of usual ``lengths`` (fields of :class:`Workload`); ``network``: bytes/s a GPU has between nodes.

    A step's generation is that of answers as ``draw`` has them; a validation waits for one of the longest.

    Raises:
        ValueError: the size of the training data is not known, or no run can have its steps (:func:`check_steps`).
    """
    trainer, needs = config.trainer, plan.needs

    def batch(prompts: int, rollouts: int) -> Workload:
        """Its longest answer leaves the others a token each."""
        others = prompts * rollouts - 1
        longest = min(lengths["response_longest"], (others + 1) * lengths["response_mean"] - others)
        return Workload(prompts, rollouts, **{**lengths, "response_longest": longest})

    def usual(settings: Settings, prompts: int, rollouts: int) -> dict[str, float]:
        return usual_step(settings, device, batch(prompts, rollouts), trainer.nnodes, network)

    check_steps(config, rows := training_rows(config))
    usual_batch = batch(plan.prompts, plan.rollouts)
    seconds, waiting = needs.of_a_step(usual(plan, plan.prompts, plan.rollouts)), None
    if needs.samples:
        waiting = waiting_for(plan, device, usual_batch, draw, mode_of(config))
        seconds |= {"generation: prefill": 0.0, "generation: decode": waiting.seconds}
    steps = planned_steps(config, rows)
    problems, samples = held_out_problems(config), config.actor_rollout_ref.rollout.val_kwargs.n
    evaluating = usual(replace(plan, needs=replace(needs, learns_by="nothing")), problems, samples)
    tests = math.ceil(steps / trainer.test_freq) if trainer.test_freq > 0 else 0
    saves = math.ceil(steps / trainer.save_freq) if trainer.save_freq > 0 else 0
    return Course(
        rows=rows,
        steps=steps,
        seconds=seconds,
        validations=tests + bool(trainer.val_before_train) if needs.steps_on_rollouts else 1,
        problems=problems,
        samples=samples,
        validation=sum(needs.of_a_validation(evaluating).values()),
        saves=saves,
        checkpoint=checkpoint_bytes(plan.student, plan.learns),
        kept=kept_at_most(saves, trainer.max_actor_ckpt_to_keep),
        exported=FP32 * plan.student.total,
        waiting=waiting,
    )
