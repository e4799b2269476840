"""Typed settings of this package (section ``vaopd`` of the config); everything else is verl's own config."""

from dataclasses import dataclass, field
from typing import Any

from verl_vaopd.algorithm.degradations import DEGRADATIONS
from verl_vaopd.algorithm.token_masking import MASKED_TOKENS
from verl_vaopd.settings.of_methods import GKDConfig, MassConfig, PAPOConfig
from verl_vaopd.settings.teacher import TeacherConfig
from verl_vaopd.settings.trained import PARTS
from verl_vaopd.settings.values import is_number, is_whole, refuse

SCORES = ("sampled", "distribution")
LAYOUTS = ("auto", "packed", "padded")


@dataclass
class VAOPDConfig:
    """Settings of VA-OPD and of the methods it is compared with. Defaults are the paper's."""

    teacher: TeacherConfig
    """The frozen teacher."""
    output_dir: str
    """Folder of this run: config, metrics, rollouts, checkpoints, figure, summary."""
    method: str = "vaopd"
    """How the student learns: ``vaopd`` (Eq. 6), ``opd`` (Eq. 1), ``vaopd_mass``, ``gkd``, ``offpolicy_kd``,
    ``cot_sft``, ``grpo``, ``grpo_va``, ``papo``, ``self``; ``base``: not at all, it is evaluated only;
    ``pkg://module:Class``: one of yours (docs/methods.md). VA is scored and logged wherever a teacher is loaded."""
    freeze: list[str] = field(default_factory=list)
    """Parts of the student that are not trained, any of ``vision``, ``merger``, ``language``, ``head``
    (docs/lora_and_freezing.md)."""
    reward_weight: float = 0.0
    """Weight of GRPO's loss on the accuracy reward beside the distillation (``opd``, ``vaopd``, ``gkd``); 0: none."""
    degraded_view: bool = True
    """Whether the teacher scores the degraded view; False (not with ``vaopd``) makes the cheaper run without VA."""
    rollout_weighting: bool = True
    """Rollout weights by relative visual advantage (Eq. 3-4); False: every sibling weighs 1/K."""
    token_grouping: bool = True
    """High- and low-VA groups averaged separately (Eq. 5); False: the mean over a rollout's tokens."""
    temperature: float = 1.0
    """tau of Eq. 4."""
    eps: float = 1e-6
    """epsilon of Eq. 3, added to the standard deviation of the siblings' mean VA (nats)."""
    high_fraction: float = 0.2
    """p_v: fraction of a rollout's tokens in the high-VA group."""
    high_weight: float = 0.5
    """lambda of Eq. 5: weight of the high-VA group."""
    score: str = "sampled"
    """``sampled``: VA of the sampled token (Eq. 2); ``distribution``: KL of the teacher's whole next-token distribution
    between the views. Weights and groups follow it; VA of Eq. 2 is logged either way."""
    mask_tokens: str = "none"
    """Tokens whose KL is left out (Section 2.2, with ``opd``): ``none``, ``random``, ``lowest_va`` or ``highest_va``.
    The others keep their 1 / (K T): nothing is normalised again, so no token counts more than in Eq. 1."""
    mask_fraction: float = 0.1
    """Fraction of a rollout's tokens that ``mask_tokens`` leaves out."""
    mask_seed: int = 42
    """Seed of the random choice."""
    degradation: str = "pixelation"
    """How the degraded view is made (Section 2.1): ``pixelation``, ``gaussian_blur``, ``patch_masking``, ``blank``."""
    degradation_ratio: float = 0.10
    """Share that the degraded view keeps: of the resolution, or of the patches."""
    layout: str = "auto"
    """How rows are laid out in teacher and student: ``packed`` (siblings share their prompt and its images; nothing is
    padded), ``padded`` (slower, as exact; for models that ``packed`` does not fit), ``auto``: the faster that fits. See
    docs/models.md."""
    chunk_size: int | None = None
    """Response tokens whose logits are alive at a time; null: chosen from the vocabulary size."""
    seed_rollouts: bool = False
    """Whether every rollout has a seed of its own, from ``rollout.seed``, its step, prompt and number. A step that is
    done again then samples the same tokens. vLLM draws seeded rollouts one by one, so it is off by default on GPUs."""
    poll_interval: float = 0.1
    """Seconds between looks for finished rollouts (verl's default is 2)."""
    log_rollout_prompts: int = 2
    """Prompts per step whose rollouts are logged token by token."""
    log_validation_rollouts: int = 50
    """Held-out rollouts that are logged token by token at each validation, of the same problems every time."""
    allow_zero_va: bool = False
    """Go on when no token of a step has visual advantage, which otherwise stops the run."""
    answers: str | None = None
    """Folder of teacher-written answers (``verl-vaopd answers`` makes it), for ``offpolicy_kd`` and ``cot_sft``."""
    papo: PAPOConfig = field(default_factory=PAPOConfig)
    """Coefficients of ``papo``."""
    gkd: GKDConfig = field(default_factory=GKDConfig)
    """Divergence and weights of ``gkd``."""
    mass: MassConfig = field(default_factory=MassConfig)
    """Groups of ``vaopd_mass``."""
    method_settings: dict[str, Any] = field(default_factory=dict)
    """Settings of a method of your own (``pkg://``), which alone reads them."""
    max_drift: float | None = None
    """Stop when the mean difference between rollout and trainer log-probabilities exceeds this (nats): the rollouts are
    not the student's (docs/reliability.md). null: log it, and warn when it leaps."""
    max_skipped_steps: int = 3
    """Stop after this many steps in a row with an update that was skipped because loss or gradient was not finite."""
    hang_factor: float | None = 30.0
    """A step that takes more than so many times the median of the last ones hangs: the run ends (docs/reliability.md),
    or starts again with ``--restarts``. null: it may take any time."""
    hang_limit: float | None = 3600.0
    """Seconds that start-up, a validation, a save and each of the first three steps may take. null: any time."""

    def __post_init__(self):
        refuse(not isinstance(self.teacher, TeacherConfig), "teacher", self.teacher, "the section of the teacher")
        refuse(not isinstance(self.papo, PAPOConfig), "papo", self.papo, "the section of PAPO's coefficients")
        refuse(not isinstance(self.gkd, GKDConfig), "gkd", self.gkd, "the section of GKD's settings")
        refuse(not isinstance(self.mass, MassConfig), "mass", self.mass, "the section of groups by mass")
        for name in ("answers", "output_dir"):
            value = getattr(self, name)
            refuse(value is not None and not isinstance(value, str), name, value, "a folder, as text")
        drift = self.max_drift
        bad_drift = drift is not None and (not is_number(drift) or drift <= 0)
        refuse(bad_drift, "max_drift", drift, "null, or a positive number")
        named = isinstance(self.method, str) and self.method
        refuse(not named, "method", self.method, "the name of a method, or pkg://module:Class")
        parts, known = self.freeze, f"a list of {', '.join(PARTS)}, each once"
        listed = isinstance(parts, list) and all(isinstance(part, str) and part in PARTS for part in parts)
        refuse(not listed or len(set(parts)) < len(parts), "freeze", parts, known)
        refuse(len(parts) == len(PARTS), "freeze", parts, "leaves nothing to train; vaopd.method=base evaluates only")
        weight, own = self.reward_weight, self.method_settings
        refuse(not is_number(weight) or weight < 0, "reward_weight", weight, "a number, 0 or more")
        refuse(not isinstance(own, dict), "method_settings", own, "a section of settings")
        for name in ("temperature", "eps", "poll_interval"):
            value = getattr(self, name)
            refuse(not is_number(value) or not value > 0, name, value, "a positive number")
        for name in ("high_fraction", "high_weight", "mask_fraction"):
            value = getattr(self, name)
            refuse(not is_number(value) or not 0 < value < 1, name, value, "a number between 0 and 1, exclusive")
        for name, known in (
            ("degradation", DEGRADATIONS),
            ("score", SCORES),
            ("mask_tokens", MASKED_TOKENS),
            ("layout", LAYOUTS),
        ):
            value = getattr(self, name)
            refuse(not isinstance(value, str) or value not in known, name, value, f"one of {', '.join(known)}")
        seed = self.mask_seed
        refuse(not is_whole(seed) or seed < 0, "mask_seed", seed, "a whole number, 0 or more")
        ratio = self.degradation_ratio
        refuse(not is_number(ratio) or not 0 < ratio <= 1, "degradation_ratio", ratio, "a number in (0, 1]")
        size = self.chunk_size
        refuse(size is not None and (not is_whole(size) or size < 1), "chunk_size", size, "null, or 1 or more")
        skipped = self.max_skipped_steps
        wrong = not is_whole(skipped) or skipped < 1
        refuse(wrong, "max_skipped_steps", skipped, "a whole number, 1 or more")
        for name, value in (("hang_factor", self.hang_factor), ("hang_limit", self.hang_limit)):
            wrong = value is not None and (not is_number(value) or value <= 1)
            refuse(wrong, name, value, "null, or a number above 1")
        for name in ("log_rollout_prompts", "log_validation_rollouts"):
            rows = getattr(self, name)
            refuse(not is_whole(rows) or rows < 0, name, rows, "0 or more")
        for name in ("degraded_view", "rollout_weighting", "token_grouping", "allow_zero_va", "seed_rollouts"):
            value = getattr(self, name)
            refuse(not isinstance(value, bool), name, value, "true or false")
        refuse(not self.output_dir, "output_dir", self.output_dir, "name a folder for the run")
