"""The most memory each phase of a recipe can need on one GPU, part by part, in bytes.

:class:`~verl_vaopd.costs.step.Step` predicts a usual step. Here every micro-batch is as large as the settings
allow: filled to its token budget, with as many image tokens as the prompts of a rank can have. A phase is given by the
moment at which it holds most.
"""

import math
from dataclasses import dataclass, field

from verl_vaopd.costs.held import (
    COPIES,
    Loss,
    MicroBatch,
    Parts,
    fullest,
    student_moments,
    teacher_moments,
    without_vision_backward,
)
from verl_vaopd.costs.shapes import BF16, FP32, ModelShape
from verl_vaopd.costs.trained import Learns
from verl_vaopd.planning.needs import Needs

RESERVE = 4e9
"""Assumed, not measured: CUDA contexts of trainer and vLLM, NCCL's buffers, work space of kernels, fragmentation."""
VLLM_WORK = 4e9
"""Assumed, not measured: what vLLM needs beside weights and keys and values: activations, sampling, CUDA graphs."""


@dataclass(frozen=True)
class Settings:
    """What of a recipe decides memory. Tokens are per GPU, of a micro-batch, of all views."""

    student: ModelShape
    teacher: ModelShape
    gpus: int
    """Of the student, over all nodes."""
    teacher_gpus: int
    """Of the teacher: the same ones where it is colocated."""
    colocated: bool
    prompts: int
    rollouts: int
    """K, per prompt."""
    prompt_limit: int
    response_limit: int
    student_tokens: int
    teacher_tokens: int
    sequence_parallel: int
    checkpointing: bool
    student_offload: bool
    optimizer_offload: bool
    teacher_offload: bool
    tensor_parallel: int
    vllm_share: float
    chunk_rows: int
    sync_bucket: float
    """Bytes of the buffer through which weights go to vLLM."""
    needs: Needs = field(default_factory=Needs)
    held_out: int = 0
    """Rollouts of a validation, all of which the teacher scores under two views."""
    learns: Learns | None = None
    """What of the student is trained; None: everything."""
    whole_distributions: bool = False
    """``vaopd.score=distribution``: logits of both views are formed together."""

    @property
    def trained(self) -> Learns:
        return self.learns or Learns.everything(self.student)

    @property
    def held(self) -> int:
        """The student's parameters, adapters included."""
        return self.student.total + self.trained.adapters

    @property
    def rank_rollouts(self) -> int:
        """Rollouts of a step on one data-parallel rank."""
        return math.ceil(self.prompts * self.rollouts / max(1, self.gpus // self.sequence_parallel))

    def rank_prompts(self, rollouts: int) -> int:
        """At most this many prompts are run for ``rollouts`` consecutive rollouts, siblings together."""
        if self.needs.fine_tunes:
            return rollouts
        whole, rest = divmod(rollouts, self.rollouts)
        return whole + (1 + (rest > 1) if rest else 0)

    def batch(self, model: ModelShape, budget: int, rollouts: int, views: int, ranks: int = 1) -> MicroBatch:
        """The largest micro-batch of ``budget`` tokens over ``ranks`` sequence-parallel ranks, on one of them."""
        prompts = self.rank_prompts(rollouts)
        image, response = views * prompts * self.prompt_limit, views * rollouts * self.response_limit
        tokens = min(budget, image + response)
        return MicroBatch(
            tokens=tokens / ranks,
            patches=min(tokens, image) * model.vision.merge,  # the vision tower runs whole on every rank
            rows=min(tokens, response) / ranks,
            keys=(min(tokens, response) + views * (rollouts - prompts) * self.prompt_limit) / ranks,
        )


@dataclass(frozen=True)
class PhaseMemory:
    """A phase and its parts in bytes."""

    name: str
    parts: Parts

    @property
    def total(self) -> float:
        return sum(self.parts.values())

    def largest(self, count: int) -> list[tuple[str, float]]:
        """The largest parts, largest first."""
        return sorted(self.parts.items(), key=lambda part: -part[1])[:count]


def phases(plan: Settings, memory: float) -> list[PhaseMemory]:
    """Every phase of a run; ``memory``: bytes of one GPU.

    Raises:
        ValueError: vLLM's share does not hold the student and one sequence of full length.
    """
    found = {"generation": _between(plan) | vllm_parts(plan, memory)}
    if plan.needs.teacher_views:
        found["teacher"] = (_between(plan) if plan.colocated else {}) | _teacher(plan)
    if plan.needs.trains:
        shard = FP32 * plan.trained.parameters / plan.gpus
        found["fine-tuning" if plan.needs.fine_tunes else "student"] = _student(plan)
        # No micro-batch has a copy any more.
        held = _updating(plan) | _hidden_states(plan, _student_batch(plan), COPIES - 1)
        found["optimiser"] = held | {"temporaries of AdamW": shard}
    found["weights to vLLM"] = _weight_sync(plan)
    return [PhaseMemory(name, parts | {"reserve (assumed)": RESERVE}) for name, parts in found.items()]


def sequence_bytes(plan: Settings) -> float:
    """Keys and values of one sequence of full length on one GPU of a vLLM replica."""
    return plan.student.text.kv_bytes * (plan.prompt_limit + plan.response_limit) / plan.tensor_parallel


def vllm_parts(plan: Settings, memory: float) -> Parts:
    """How vLLM divides its share of the GPU."""
    weights = BF16 * plan.student.total / plan.tensor_parallel
    cache = plan.vllm_share * memory - weights - VLLM_WORK
    if cache < sequence_bytes(plan):
        needed = math.ceil(100 * (weights + VLLM_WORK + sequence_bytes(plan)) / memory) / 100
        raise ValueError(
            f"actor_rollout_ref.rollout.gpu_memory_utilization={plan.vllm_share}: must be {needed} or more: vLLM holds "
            f"{weights / 1e9:.1f} GB of weights, about {VLLM_WORK / 1e9:.0f} GB of work space and at least one "
            f"sequence of {plan.prompt_limit + plan.response_limit} tokens ({sequence_bytes(plan) / 1e9:.1f} GB)"
        )
    return {"vLLM weights": weights, "vLLM keys and values": cache, "vLLM work space (assumed)": VLLM_WORK}


def host_bytes(plan: Settings, gpus_per_node: int) -> float:
    """What is kept in one node's memory instead of on its GPUs: the offloaded shards."""
    per_gpu = 0.0
    if plan.student_offload:
        per_gpu += FP32 * plan.held / plan.gpus
    if plan.optimizer_offload and plan.needs.steps_on_rollouts:
        per_gpu += 2 * FP32 * plan.trained.parameters / plan.gpus
    if plan.teacher_offload and plan.needs.teacher_views:
        per_gpu += BF16 * plan.teacher.total / plan.teacher_gpus
    return per_gpu * gpus_per_node


def _between(plan: Settings) -> Parts:
    """What is on the student's GPUs outside its own phases."""
    parts = {}
    if plan.needs.distils:
        parts["teacher head"] = BF16 * plan.teacher.head_size
    if not plan.student_offload:
        parts["student weights"] = FP32 * plan.held / plan.gpus
    if plan.needs.steps_on_rollouts and not plan.optimizer_offload:
        parts["AdamW states"] = 2 * FP32 * plan.trained.parameters / plan.gpus
    if plan.needs.teacher_views and plan.colocated and not plan.teacher_offload:
        parts["teacher weights"] = BF16 * plan.teacher.total / plan.gpus
    return parts


def _updating(plan: Settings) -> Parts:
    """While the student trains all its states are on the GPU, offloaded or not."""
    states = {
        "student weights": FP32 * plan.held / plan.gpus,
        "AdamW states": 2 * FP32 * plan.trained.parameters / plan.gpus,
        "gradients": FP32 * plan.trained.parameters / plan.gpus,
    }
    return states if plan.needs.fine_tunes else _between(plan) | states


def _hidden_states(plan: Settings, batch: MicroBatch, copies: int = COPIES) -> Parts:
    """The teacher's: ``copies`` of those of all rollouts of a rank where they stay on the GPU, else a micro-batch's."""
    if not plan.needs.distils:
        return {}
    stay = plan.colocated and plan.sequence_parallel == 1
    rows = copies * plan.rank_rollouts * plan.response_limit if stay else batch.rows
    return {"hidden states": BF16 * plan.teacher.text.hidden_size * rows}


def _teacher(plan: Settings) -> Parts:
    teacher, needs = plan.teacher, plan.needs
    rollouts = math.ceil(plan.prompts * plan.rollouts / plan.teacher_gpus) if needs.steps_on_rollouts else 0
    held_out = math.ceil(plan.held_out / plan.teacher_gpus) if needs.teacher_views == 2 else 0
    batch = plan.batch(teacher, plan.teacher_tokens, max(rollouts, held_out), needs.teacher_views)
    return {
        "teacher weights": BF16 * teacher.total / plan.teacher_gpus,
        "hidden states": BF16 * teacher.text.hidden_size * rollouts * plan.response_limit * needs.distils,
        **fullest(teacher_moments(teacher, batch, plan.chunk_rows, plan.whole_distributions)),
    }


def _student_batch(plan: Settings) -> MicroBatch:
    budget, ranks = plan.student_tokens * plan.sequence_parallel, plan.sequence_parallel
    return plan.batch(plan.student, budget, plan.rank_rollouts, plan.needs.student_views, ranks)


def _student(plan: Settings) -> Parts:
    batch, loss = _student_batch(plan), Loss(plan.needs.distils, plan.chunk_rows, plan.needs.rewarded)
    moments = student_moments(plan.student, batch, plan.checkpointing, loss)
    if not plan.trained.vision_backward:
        moments = without_vision_backward(moments, plan.student, batch)
    return _updating(plan) | _hidden_states(plan, batch) | fullest(moments)


def _weight_sync(plan: Settings) -> Parts:
    return _between(plan) | {
        "student weights": FP32 * plan.held / plan.gpus,
        "vLLM weights": BF16 * plan.student.total / plan.tensor_parallel,
        "transfer buffer": plan.sync_bucket,
        "gathered tensor": FP32 * plan.student.head_size,
    }
