"""Typed settings of this package (section ``vaopd`` of the config); everything else is verl's own config."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from verl_vaopd.algorithm.degradations import DEGRADATIONS
from verl_vaopd.algorithm.token_masking import MASKED_TOKENS
from verl_vaopd.checks.host_values import is_number, is_whole

METHODS = ("base", "cot_sft", "offpolicy_kd", "opd", "grpo", "papo", "vaopd")
DISTILLATION = ("offpolicy_kd", "opd", "vaopd")
POLICY_GRADIENT = ("grpo", "papo")
ANSWERED_BY_TEACHER = ("cot_sft", "offpolicy_kd")
PLACEMENTS = ("colocated", "separate")
SCORES = ("sampled", "distribution")
LOSS_AGG_MODES = ("token-mean", "seq-mean-token-mean")
LOAD_FORMATS = ("auto", "safetensors", "dummy")
WORKER_EXTENSION = "verl_vaopd.rollout.weight_socket.PrivateSocketExtension"
SECRET_SETTING = re.compile(
    r"(^|[_.])(api_?key|access_key|(hf|auth|access|api)_token|secret|secret_key|password)$", re.I
)
SECRET_VARIABLE = re.compile(r"env_vars\.\w*(KEY|TOKEN|SECRET|PASSWORD)$", re.I)


def _refuse(condition: bool, setting: str, value, wanted: str) -> None:
    if condition:
        raise ValueError(f"vaopd.{setting}={value!r}: {wanted}")


def _is_pixel_budget(budget: dict) -> bool:
    low, high = budget.get("min_pixels"), budget.get("max_pixels")
    whole = is_whole(low) and is_whole(high)
    return not budget or (set(budget) == {"min_pixels", "max_pixels"} and whole and 1 <= low <= high)


@dataclass
class TeacherConfig:
    """The frozen teacher and where it runs."""

    path: str
    """Hub name or local folder of the teacher, a Qwen3-VL checkpoint in safetensors format."""
    placement: str = "colocated"
    """``colocated``: on the student's devices, in the same processes; ``separate``: on devices of its own."""
    nnodes: int = 1
    """Nodes of the separate pool."""
    n_gpus_per_node: int = 8
    """Devices per node of the separate pool."""
    dtype: str = "bf16"
    """Dtype of the teacher's weights and compute: ``bf16`` or ``fp32``."""
    param_offload: bool = False
    """Keep the teacher in host memory between its turns."""
    fsdp_size: int = -1
    """Ranks that share one copy of the weights; -1: all of them."""
    use_dynamic_bsz: bool = True
    """Micro-batches by token count; False: by number of rollouts."""
    max_token_len_per_gpu: int = 32768
    """Tokens of a micro-batch under both views, a prompt counted once for its rollouts, with ``use_dynamic_bsz``."""
    micro_batch_size_per_gpu: int = 4
    """Rollouts of a micro-batch without ``use_dynamic_bsz``."""
    override_config: dict[str, Any] = field(default_factory=dict)
    """Overrides of the model's config, for example ``attn_implementation``."""

    def __post_init__(self):
        named = isinstance(self.path, str) and self.path
        _refuse(not named, "teacher.path", self.path, "name the teacher's checkpoint (hub name or local folder)")
        _refuse(self.placement not in PLACEMENTS, "teacher.placement", self.placement, f"one of {PLACEMENTS}")
        _refuse(self.dtype not in ("bf16", "fp32"), "teacher.dtype", self.dtype, "'bf16' or 'fp32'")
        for name in ("nnodes", "n_gpus_per_node", "max_token_len_per_gpu", "micro_batch_size_per_gpu"):
            value = getattr(self, name)
            _refuse(not is_whole(value) or value < 1, f"teacher.{name}", value, "a whole number, 1 or more")
        for name in ("param_offload", "use_dynamic_bsz"):
            value = getattr(self, name)
            _refuse(not isinstance(value, bool), f"teacher.{name}", value, "true or false")
        size = self.fsdp_size
        _refuse(not is_whole(size) or (size < 1 and size != -1), "teacher.fsdp_size", size, "1 or more, or -1: all")
        overrides = self.override_config
        _refuse(not isinstance(overrides, dict), "teacher.override_config", overrides, "a section of settings")

    def engine_config(self):
        """verl's FSDP2 engine config for this teacher."""
        from verl.workers.config import FSDPEngineConfig

        return FSDPEngineConfig(
            strategy="fsdp2",
            model_dtype=self.dtype,
            mixed_precision={"param_dtype": self.dtype, "reduce_dtype": "fp32", "buffer_dtype": "fp32"},
            param_offload=self.param_offload,
            fsdp_size=self.fsdp_size,
            use_torch_compile=False,
            use_dynamic_bsz=self.use_dynamic_bsz,
            infer_max_token_len_per_gpu=self.max_token_len_per_gpu,
            infer_micro_batch_size_per_gpu=self.micro_batch_size_per_gpu,
        )


@dataclass
class PAPOConfig:
    """Coefficients of PAPO (Wang et al. 2025, arXiv 2507.06448), those of PAPO-G; docs/methods.md has their sources."""

    perception_weight: float = 0.01
    """gamma: of the perception KL, which is maximised."""
    entropy_weight: float = 0.03
    """eta_1: of the policy's entropy given the image, which is held down."""
    masked_entropy_weight: float = 0.03
    """eta_2: of its entropy given the masked image."""
    mask_ratio: float = 0.6
    """Probability of a patch to be black."""
    mask_patch_size: int = 14
    """Side of a patch, pixels."""

    def __post_init__(self):
        for name in ("perception_weight", "entropy_weight", "masked_entropy_weight"):
            value = getattr(self, name)
            _refuse(not is_number(value) or value < 0, f"papo.{name}", value, "a number, 0 or more")
        ratio, size = self.mask_ratio, self.mask_patch_size
        _refuse(not is_number(ratio) or not 0 < ratio <= 1, "papo.mask_ratio", ratio, "a number in (0, 1]")
        _refuse(not is_whole(size) or size < 1, "papo.mask_patch_size", size, "a whole number, 1 or more")


@dataclass
class VAOPDConfig:
    """Settings of VA-OPD and of the methods it is compared with. Defaults are the paper's."""

    teacher: TeacherConfig
    """The frozen teacher."""
    output_dir: str
    """Folder of this run: config, metrics, rollouts, checkpoints, figure, summary."""
    method: str = "vaopd"
    """Objective: ``vaopd`` (Eq. 6), ``opd`` (Eq. 1), ``offpolicy_kd``, ``cot_sft``, ``grpo``, ``papo``; ``base``: none,
    the student is evaluated only. See docs/methods.md. VA is scored and logged wherever a teacher is loaded."""
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
    max_drift: float | None = None
    """Stop when the mean difference between rollout and trainer log-probabilities exceeds this (nats); null: log it,
    and warn when it leaps."""
    max_skipped_steps: int = 3
    """Stop after this many steps in a row with an update that was skipped because loss or gradient was not finite."""

    def __post_init__(self):
        _refuse(not isinstance(self.teacher, TeacherConfig), "teacher", self.teacher, "the section of the teacher")
        _refuse(not isinstance(self.papo, PAPOConfig), "papo", self.papo, "the section of PAPO's coefficients")
        for name in ("answers", "output_dir"):
            value = getattr(self, name)
            _refuse(value is not None and not isinstance(value, str), name, value, "a folder, as text")
        drift = self.max_drift
        bad_drift = drift is not None and (not is_number(drift) or drift <= 0)
        _refuse(bad_drift, "max_drift", drift, "null, or a positive number")
        _refuse(self.method not in METHODS, "method", self.method, f"one of {METHODS}")
        for name in ("temperature", "eps", "poll_interval"):
            value = getattr(self, name)
            _refuse(not is_number(value) or not value > 0, name, value, "a positive number")
        for name in ("high_fraction", "high_weight", "mask_fraction"):
            value = getattr(self, name)
            _refuse(not is_number(value) or not 0 < value < 1, name, value, "a number between 0 and 1, exclusive")
        for name, known in (("degradation", DEGRADATIONS), ("score", SCORES), ("mask_tokens", MASKED_TOKENS)):
            value = getattr(self, name)
            _refuse(not isinstance(value, str) or value not in known, name, value, f"one of {', '.join(known)}")
        masks = self.mask_tokens != "none"
        _refuse(masks and self.method != "opd", "mask_tokens", self.mask_tokens, "'none', unless vaopd.method=opd")
        needs_va = masks and self.mask_tokens != "random" and not self.degraded_view
        _refuse(needs_va, "mask_tokens", self.mask_tokens, "'random' or 'none': without degraded_view there is no VA")
        seed = self.mask_seed
        _refuse(not is_whole(seed) or seed < 0, "mask_seed", seed, "a whole number, 0 or more")
        ratio = self.degradation_ratio
        _refuse(not is_number(ratio) or not 0 < ratio <= 1, "degradation_ratio", ratio, "a number in (0, 1]")
        size = self.chunk_size
        _refuse(size is not None and (not is_whole(size) or size < 1), "chunk_size", size, "null, or 1 or more")
        skipped = self.max_skipped_steps
        wrong = not is_whole(skipped) or skipped < 1
        _refuse(wrong, "max_skipped_steps", skipped, "a whole number, 1 or more")
        for name in ("log_rollout_prompts", "log_validation_rollouts"):
            rows = getattr(self, name)
            _refuse(not is_whole(rows) or rows < 0, name, rows, "0 or more")
        for name in ("degraded_view", "rollout_weighting", "token_grouping", "allow_zero_va", "seed_rollouts"):
            value = getattr(self, name)
            _refuse(not isinstance(value, bool), name, value, "true or false")
        needs_va = self.method == "vaopd" and not self.degraded_view
        _refuse(needs_va, "degraded_view", False, "true: vaopd weighs tokens by the difference of the two views")
        unanswered = self.method in ANSWERED_BY_TEACHER and not self.answers
        _refuse(
            unanswered, "answers", self.answers, f"the folder that `verl-vaopd answers` made: {self.method} needs it"
        )
        _refuse(not self.output_dir, "output_dir", self.output_dir, "name a folder for the run")

    @property
    def uses_teacher(self) -> bool:
        """Whether a teacher is loaded: to distil from, or to score the VA of a student that is only evaluated."""
        return self.method in DISTILLATION or (self.method in ("base", "cot_sft") and self.degraded_view)

    @property
    def scores_va(self) -> bool:
        """Whether the teacher scores the degraded view of rollouts."""
        return self.uses_teacher and self.degraded_view


def _settings(section, name: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted name and value of every setting."""
    items = section.items() if isinstance(section, dict) else enumerate(section)
    for key, value in items:
        inner = f"{name}.{key}" if name else str(key)
        if isinstance(value, dict | list):
            yield from _settings(value, inner)
        else:
            yield inner, value


def refuse_unsafe_settings(config) -> None:
    """Refuse settings that let a checkpoint bring code, or that put a secret into config.yaml and the logs.

    Raises:
        ValueError: names the setting and what to set instead.
    """
    from omegaconf import OmegaConf

    for name, value in _settings(OmegaConf.to_container(config, resolve=True)):
        normal = name.replace("-", "_")
        if normal.endswith("trust_remote_code") and value not in (None, False):
            raise ValueError(f"{name}={value!r}: must be false: code of a checkpoint is never run")
        if value and isinstance(value, str) and (SECRET_SETTING.search(normal) or SECRET_VARIABLE.search(normal)):
            raise ValueError(
                f"{name} holds a secret, which would be in config.yaml and in logs: leave it out and export the "
                "variable where the run, or the cluster's Ray, is started; workers inherit it"
            )
    load_format = config.actor_rollout_ref.rollout.load_format
    if load_format not in LOAD_FORMATS:
        wanted = f"one of {LOAD_FORMATS}: safetensors only"
        raise ValueError(f"actor_rollout_ref.rollout.load_format={load_format!r}: must be {wanted}")


def validate_host_settings(config) -> None:
    """Refuse verl settings under which the loss would not be Eq. 6, and unsafe ones.

    Raises:
        ValueError: names the setting and what to set instead.
    """
    refuse_unsafe_settings(config)
    actor, rollout, data = config.actor_rollout_ref.actor, config.actor_rollout_ref.rollout, config.data
    teacher, method = config.vaopd.teacher, config.vaopd.method
    world, sequence_ranks = config.trainer.n_gpus_per_node * config.trainer.nnodes, actor.ulysses_sequence_parallel_size
    ranks = max(1, world // sequence_ranks)
    param_dtype = actor.fsdp_config.mixed_precision.param_dtype
    views = 2 if config.vaopd.degraded_view else 1
    student_views = 2 if method == "papo" else 1
    longest = data.max_prompt_length + data.max_response_length
    budget = dict(data.mm_processor_kwargs or {})
    rules = [
        (
            not _is_pixel_budget(budget),
            "data.mm_processor_kwargs",
            budget,
            "{min_pixels: A, max_pixels: B} with 1 <= A <= B, or null: the budget of the checkpoint",
        ),
        (actor.strategy != "fsdp2", "actor_rollout_ref.actor.strategy", actor.strategy, "'fsdp2'"),
        (rollout.name != "vllm", "actor_rollout_ref.rollout.name", rollout.name, "'vllm'"),
        (rollout.n < 1, "actor_rollout_ref.rollout.n", rollout.n, "1 or more rollouts per prompt"),
        (rollout.temperature <= 0, "actor_rollout_ref.rollout.temperature", rollout.temperature, "a positive number"),
        (
            actor.ppo_mini_batch_size < 1 or data.train_batch_size % actor.ppo_mini_batch_size,
            "actor_rollout_ref.actor.ppo_mini_batch_size",
            actor.ppo_mini_batch_size,
            f"a divisor of data.train_batch_size ({data.train_batch_size}): every optimiser step takes whole prompts",
        ),
        (
            actor.ppo_mini_batch_size != data.train_batch_size and actor.ppo_mini_batch_size * rollout.n % ranks,
            "actor_rollout_ref.actor.ppo_mini_batch_size",
            actor.ppo_mini_batch_size,
            f"such that its rollouts (times rollout.n={rollout.n}) divide by the {ranks} data-parallel ranks",
        ),
        (actor.ppo_epochs != 1, "actor_rollout_ref.actor.ppo_epochs", actor.ppo_epochs, "1: rollouts are used once"),
        (
            world % sequence_ranks != 0,
            "actor_rollout_ref.actor.ulysses_sequence_parallel_size",
            sequence_ranks,
            f"a divisor of the {world} devices",
        ),
        (
            not config.actor_rollout_ref.model.use_remove_padding,
            "actor_rollout_ref.model.use_remove_padding",
            False,
            "true: rows are always packed",
        ),
        (
            actor.use_dynamic_bsz and actor.ppo_max_token_len_per_gpu * sequence_ranks < student_views * longest,
            "actor_rollout_ref.actor.ppo_max_token_len_per_gpu",
            actor.ppo_max_token_len_per_gpu,
            f"{-(-student_views * longest // sequence_ranks)} or more: a rollout may have {longest} tokens "
            "(data.max_prompt_length + data.max_response_length)" + " under 2 views" * (student_views > 1),
        ),
        (
            teacher.use_dynamic_bsz and teacher.max_token_len_per_gpu < views * longest,
            "vaopd.teacher.max_token_len_per_gpu",
            teacher.max_token_len_per_gpu,
            f"{views * longest} or more: a rollout may have {longest} tokens (data.max_prompt_length + "
            f"data.max_response_length) under {views} view{'s' * (views > 1)}",
        ),
        (
            param_dtype not in ("bf16", "fp32"),
            "actor_rollout_ref.actor.fsdp_config.mixed_precision.param_dtype",
            param_dtype,
            "'bf16' or 'fp32'",
        ),
        (actor.use_kl_loss, "actor_rollout_ref.actor.use_kl_loss", True, "false: the loss is Eq. 6 alone"),
        (config.critic.enable is True, "critic.enable", True, "false: distillation has no critic"),
        (
            not rollout.calculate_log_probs,
            "actor_rollout_ref.rollout.calculate_log_probs",
            False,
            "true: the drift between rollout and trainer is checked with them",
        ),
        (
            rollout.logprobs_mode != "raw_logprobs",
            "actor_rollout_ref.rollout.logprobs_mode",
            rollout.logprobs_mode,
            "'raw_logprobs': the trainer's log-probabilities are at temperature 1 too",
        ),
        (
            data.val_batch_size is not None,
            "data.val_batch_size",
            data.val_batch_size,
            "null: validation is one batch, over which its VA is taken",
        ),
        (data.filter_overlong_prompts, "data.filter_overlong_prompts", True, "false: no row is dropped silently"),
        (
            method in POLICY_GRADIENT and actor.ppo_mini_batch_size != data.train_batch_size,
            "actor_rollout_ref.actor.ppo_mini_batch_size",
            actor.ppo_mini_batch_size,
            f"{data.train_batch_size} (data.train_batch_size) with {method}: the policy that learns must be the one "
            "that sampled",
        ),
        (
            method in POLICY_GRADIENT and actor.loss_agg_mode not in LOSS_AGG_MODES,
            "actor_rollout_ref.actor.loss_agg_mode",
            actor.loss_agg_mode,
            f"one of {LOSS_AGG_MODES} with {method}",
        ),
        (
            method in POLICY_GRADIENT and actor.policy_loss.loss_mode != "vanilla",
            "actor_rollout_ref.actor.policy_loss.loss_mode",
            actor.policy_loss.loss_mode,
            f"'vanilla' with {method}",
        ),
        (
            method == "papo" and sequence_ranks > 1,
            "actor_rollout_ref.actor.ulysses_sequence_parallel_size",
            sequence_ranks,
            "1 with papo: a token's two views must be on one rank",
        ),
        (
            rollout.engine_kwargs.vllm.worker_extension_cls != WORKER_EXTENSION,
            "actor_rollout_ref.rollout.engine_kwargs.vllm.worker_extension_cls",
            rollout.engine_kwargs.vllm.worker_extension_cls,
            f"{WORKER_EXTENSION!r}: student and vLLM must name the same socket",
        ),
        (
            config.vaopd.seed_rollouts and config.trainer.device == "cpu" and rollout.enable_chunked_prefill,
            "actor_rollout_ref.rollout.enable_chunked_prefill",
            True,
            "false with vaopd.seed_rollouts: vLLM's CPU engine ends on seeded requests with chunked prefill",
        ),
        (config.trainer.v1.trainer_mode != "sync", "trainer.v1.trainer_mode", config.trainer.v1.trainer_mode, "'sync'"),
    ]
    for wrong, name, value, wanted in rules:
        if wrong:
            raise ValueError(f"{name}={value!r}: must be {wanted}")
