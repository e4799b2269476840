"""What a method says of itself, and what it is asked by whom. docs/methods.md walks through writing one.

Legend: N rollouts of a step, T response tokens (right padded), M response tokens of a micro-batch.
"""

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial

from PIL import Image
from torch import Tensor

from verl_vaopd.algorithm.degradations import DEGRADATIONS
from verl_vaopd.methods.interface.objective import Objective
from verl_vaopd.methods.interface.scores import SCORES, Evidence, Views
from verl_vaopd.settings.config import VAOPDConfig

Refusal = tuple[bool, str, object, str]
"""(whether it holds, setting, its value, what the setting must be)."""


@dataclass
class Step:
    """The rollouts of a step as the driver knows them.

    columns: name -> [N, T], those that the method ``reads``. mask: [N, T] bool, the response tokens.
    prompts: N uids; rollouts with equal ones are siblings.
    config: the whole config, for the settings of verl that a method goes by.
    read_ids: N byte strings, for :attr:`rollout_ids`.
    evidence: kept by :meth:`Method.evidence`, which makes it once a step.
    """

    columns: dict[str, Tensor]
    mask: Tensor
    prompts: list[str]
    config: object
    read_ids: Callable[[], list[bytes]] = list
    evidence: Evidence | None = None

    @cached_property
    def rollout_ids(self) -> list[bytes]:
        """What tells a rollout from the others whatever batch it is in: its step and its response."""
        return self.read_ids()

    @property
    def prompt_count(self) -> int:
        return len(set(self.prompts))


@dataclass
class Weighed:
    """What the driver writes back, and what it logs.

    student: name -> [N, T], the columns that the objective reads; ``token_weights`` among them, and in it every
        normalisation: the loss is a plain sum over tokens. 0 off the mask.
    evidence: visual advantage and score, where two views were scored.
    metrics: of the step. per_rollout: name -> [N], per_token: name -> [N, T], for the token log.
    """

    student: dict[str, Tensor]
    evidence: Evidence | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    per_rollout: dict[str, Tensor] = field(default_factory=dict)
    per_token: dict[str, Tensor] = field(default_factory=dict)


@dataclass
class Label:
    """How a report calls a run. kind: ``method``, ``ablation`` or ``masking``, decided by the report if None."""

    name: str
    extras: list[str] = field(default_factory=list)
    kind: str | None = None


TWO_VIEWS = ("degradation", "degradation_ratio", "score")
"""Settings that are read where the teacher scores two views."""
SHOWN = (("va/mean", "VA {:.4f}"), ("va/top10_share", "(top 10%: {:.0%})"))
DRIFT = ("drift/mean", "drift {:.1e}")


class Method(ABC):
    """How a student is trained. Built anew in every process that asks; holds nothing but its settings."""

    title: str
    """How tables and figures call it."""
    answers_by = "student"
    """Who writes the answers: ``student``, its rollouts; ``teacher``, stored ones (``verl-vaopd answers``)."""
    learns_by = "rollouts"
    """``rollouts``: a step on each batch of answers; ``fine_tuning``: verl's SFT trainer on the teacher's right
    answers; ``nothing``: the student is evaluated only."""
    student_views = 1
    """Views of a row in the student's forward; 2: rows with images run under the second view too."""
    shows_second_view = False
    """Whether the student is shown the second view of an image instead of the image: by vLLM, at validations too, and
    in its own forward."""
    teacher_hidden = False
    """Whether the student needs the teacher's distribution, and so its last hidden states and its head."""
    takes_masks = False
    """Whether ``vaopd.mask_tokens`` means something."""
    takes_reward = False
    """Whether ``vaopd.reward_weight`` does."""
    takes_settings = False
    """Whether ``vaopd.method_settings`` does."""

    def __init__(self, settings: VAOPDConfig):
        self.settings = settings

    # ------------------------------------------------------------------ before a start

    @property
    def name(self) -> str:
        """As ``vaopd.method`` has it."""
        return self.settings.method

    def prepare(self, config) -> None:  # noqa: B027 (nothing follows from most methods)
        """Set what follows from the method in verl's settings."""

    def refusals(self, config) -> Iterator[Refusal]:
        """Settings that the method cannot have, this package's and verl's."""
        own = self.settings
        yield (
            own.mask_tokens != "none" and not self.takes_masks,
            "vaopd.mask_tokens",
            own.mask_tokens,
            "'none', unless vaopd.method=opd",
        )
        yield (
            own.reward_weight > 0 and not self.takes_reward,
            "vaopd.reward_weight",
            own.reward_weight,
            f"0: {self.name} takes no reward beside its objective",
        )
        yield (
            bool(own.method_settings) and not self.takes_settings,
            "vaopd.method_settings",
            own.method_settings,
            f"empty: {self.name} reads none of them",
        )
        yield (
            self.answers_by == "teacher" and not own.answers,
            "vaopd.answers",
            own.answers,
            f"the folder that `verl-vaopd answers` made: {self.name} needs it",
        )

        # In training and at validations; without one, or beside one, there is nothing to show.
        views = [self.second_view(random.Random(0), validate) for validate in (False, True)]
        yield (
            self.shows_second_view and (None in views or self.student_views == 2),
            "vaopd.method",
            self.name,
            "one whose second_view() is never None and whose student_views is 1, where shows_second_view is true",
        )

        mode = config.trainer.v1.trainer_mode
        yield (
            self.answers_by == "teacher" and mode != "sync",
            "trainer.v1.trainer_mode",
            mode,
            f"'sync': answers of {self.name} are stored, no step waits for them",
        )

    @property
    def follows(self) -> tuple[str, ...]:
        """Of the settings of ``vaopd`` that not every method reads (``OF_METHODS``), those that this one does, under
        its other settings. Of a section: all in it."""
        return TWO_VIEWS if self.teacher_views == 2 else ()

    @property
    def policy_gradient(self) -> bool:
        """Whether verl's settings of a loss on the reward are read (``settings/conditional.py``)."""
        return "rm_scores" in self.reads

    # ------------------------------------------------------------------ views, and who sees them

    @property
    def teacher_views(self) -> int:
        """Under which the teacher scores rollouts: 0 (none is loaded), 1 (the original), 2 (the degraded one too)."""
        return 0

    def second_view(self, rng: random.Random, validate: bool) -> Callable[[Image.Image], Image.Image] | None:
        """How the second view of a prompt's images is made, at its original size; None: there is none.

        ``rng`` is the prompt's own, the same whenever a step is done.
        """
        if self.teacher_views < 2:
            return None
        return partial(DEGRADATIONS[self.settings.degradation], ratio=self.settings.degradation_ratio)

    # ------------------------------------------------------------------ teacher side

    @property
    def scores(self):
        """The score that ``vaopd.score`` names."""
        return SCORES[self.settings.score]

    @property
    def score_names(self) -> tuple[str, ...]:
        """The columns that :meth:`score` writes."""
        return self.scores.names if self.teacher_views else ()

    def score(self, views: Views) -> dict[str, Tensor]:
        """``score_names`` -> [M], what the teacher says of a micro-batch's tokens. No gradient."""
        return self.scores.of(views)

    # ------------------------------------------------------------------ driver side

    def evidence(self, step: Step) -> Evidence:
        """Visual advantage and score of the step's tokens, from the teacher's scores (Eq. 2)."""
        if step.evidence is None:
            step.evidence = self.scores.evidence(step.columns, step.mask)
        return step.evidence

    @property
    def reads(self) -> tuple[str, ...]:
        """Columns of a step that :meth:`weigh` is given."""
        return self.score_names

    @abstractmethod
    def weigh(self, step: Step) -> Weighed:
        """From a step's columns to one weight per token."""

    # ------------------------------------------------------------------ student side

    @abstractmethod
    def objective(self, actor, temperature: float) -> Objective:
        """What the student minimises. ``actor``: verl's actor config; ``temperature``: of the rollouts."""

    # ------------------------------------------------------------------ what is shown

    @property
    def shown(self) -> tuple[tuple[str, str], ...]:
        """(metric, format) of a step's line, in order; what a step does not have is left out."""
        return (*SHOWN, DRIFT)

    def metrics(self, sums: Mapping[str, float]) -> dict[str, float]:
        """Metrics of a step from the sums of its objective, over all ranks and micro-batches."""
        return {}

    @classmethod
    def label(cls, vaopd: Mapping) -> Label:
        """How a report calls a run with these settings (section ``vaopd``)."""
        return Label(cls.title)
