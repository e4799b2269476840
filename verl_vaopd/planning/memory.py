"""The most memory each phase of a recipe can need on one GPU, part by part, in bytes.

:class:`~verl_vaopd.costs.step.Step` predicts a usual step. Here every micro-batch is as large as the settings
allow: filled to its token budget, with as many image tokens as the prompts of a rank can have. Parts of a phase are
added up as if all stood at once.
"""

import math
from dataclasses import dataclass

from verl_vaopd.costs.shapes import BF16, FP32, ModelShape

RESERVE = 4e9
"""Assumed, not measured: CUDA contexts of trainer and vLLM, NCCL's buffers, fragmentation."""
VLLM_WORK = 4e9
"""Assumed, not measured: what vLLM needs beside weights and keys and values: activations, sampling, CUDA graphs."""
BLOCK_ROWS = 64  # rows whose fp32 softmaxes the fused loss holds at a time


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
    views: int
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

    @property
    def rank_rollouts(self) -> int:
        """Rollouts of a step on one data-parallel rank."""
        return math.ceil(self.prompts * self.rollouts / max(1, self.gpus // self.sequence_parallel))

    def rank_prompts(self, rollouts: int) -> int:
        """At most this many prompts do ``rollouts`` consecutive rollouts, siblings together, come from."""
        whole, rest = divmod(rollouts, self.rollouts)
        return min(self.prompts, whole + (1 + (rest > 1) if rest else 0))

    def batch(self, budget: int, rollouts: int, views: int) -> tuple[int, int]:
        """Tokens and patch tokens (decoder tokens that are image) of the largest micro-batch."""
        prompts = self.rank_prompts(rollouts) * self.prompt_limit
        tokens = min(budget, views * (prompts + rollouts * self.response_limit))
        return tokens, min(tokens, views * prompts)


@dataclass(frozen=True)
class PhaseMemory:
    """A phase, on which GPUs it runs, and its parts in bytes."""

    name: str
    parts: dict[str, float]

    @property
    def total(self) -> float:
        return sum(self.parts.values())

    def largest(self, count: int) -> list[tuple[str, float]]:
        """The largest parts, largest first."""
        return sorted(self.parts.items(), key=lambda part: -part[1])[:count]


def phases(plan: Settings, memory: float) -> list[PhaseMemory]:
    """Every phase of a step; ``memory``: bytes of one GPU.

    Raises:
        ValueError: vLLM's share does not hold the student and one sequence of full length.
    """
    student = [
        PhaseMemory("generation", _between(plan) | vllm_parts(plan, memory)),
        PhaseMemory("student", _student(plan)),
        PhaseMemory("optimiser", _updating(plan) | {"temporaries of AdamW": FP32 * plan.student.total / plan.gpus}),
        PhaseMemory("weights to vLLM", _weight_sync(plan)),
    ]
    student.insert(1, PhaseMemory("teacher", (_between(plan) if plan.colocated else {}) | _teacher(plan)))
    return [PhaseMemory(phase.name, phase.parts | {"reserve (assumed)": RESERVE}) for phase in student]


def sequence_bytes(plan: Settings) -> float:
    """Keys and values of one sequence of full length on one GPU of a vLLM replica."""
    return plan.student.text.kv_bytes * (plan.prompt_limit + plan.response_limit) / plan.tensor_parallel


def vllm_parts(plan: Settings, memory: float) -> dict[str, float]:
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
        per_gpu += FP32 * plan.student.total / plan.gpus
    if plan.optimizer_offload:
        per_gpu += 2 * FP32 * plan.student.total / plan.gpus
    if plan.teacher_offload:
        per_gpu += BF16 * plan.teacher.total / plan.teacher_gpus
    return per_gpu * gpus_per_node


def _between(plan: Settings) -> dict[str, float]:
    """What is on the student's GPUs outside its own phases."""
    parts = {"teacher head": BF16 * plan.teacher.head_size}
    if not plan.student_offload:
        parts["student weights"] = FP32 * plan.student.total / plan.gpus
    if not plan.optimizer_offload:
        parts["AdamW states"] = 2 * FP32 * plan.student.total / plan.gpus
    if plan.colocated and not plan.teacher_offload:
        parts["teacher weights"] = BF16 * plan.teacher.total / plan.gpus
    return parts


def _updating(plan: Settings) -> dict[str, float]:
    """While the student trains all its states are on the GPU, offloaded or not."""
    states = {
        "student weights": FP32 * plan.student.total / plan.gpus,
        "AdamW states": 2 * FP32 * plan.student.total / plan.gpus,
        "gradients": FP32 * plan.student.total / plan.gpus,
    }
    return _between(plan) | states


def _gathered(model: ModelShape, size: int) -> float:
    """``size`` bytes per weight of what FSDP holds unsharded at once: the head, a layer and the prefetched next."""
    return size * (model.head_size + 2 * model.text.layer_parameters)


def _chunk_buffers(plan: Settings) -> float:
    return 2 * (BF16 * plan.chunk_rows + FP32 * BLOCK_ROWS) * plan.student.text.vocab_size


def _teacher(plan: Settings) -> dict[str, float]:
    teacher, rollouts = plan.teacher, math.ceil(plan.prompts * plan.rollouts / plan.teacher_gpus)
    tokens, image_tokens = plan.batch(plan.teacher_tokens, rollouts, plan.views)
    widest = max(
        tokens * teacher.text.widest_activations, image_tokens * teacher.vision.merge * teacher.vision.block_activations
    )
    hidden = BF16 * teacher.text.hidden_size
    return {
        "teacher weights": BF16 * teacher.total / plan.teacher_gpus,
        "gathered teacher weights": _gathered(teacher, BF16),
        "activations": BF16 * widest,
        "hidden states": hidden * (rollouts * plan.response_limit + tokens),
        "chunk buffers": _chunk_buffers(plan),
    }


def _student(plan: Settings) -> dict[str, float]:
    student, text, vision = plan.student, plan.student.text, plan.student.vision
    budget = plan.student_tokens * plan.sequence_parallel
    tokens, image_tokens = plan.batch(budget, plan.rank_rollouts, views=1)
    tokens = tokens / plan.sequence_parallel  # the vision tower runs whole on every rank
    patches = image_tokens * vision.merge
    parts = _updating(plan) | {
        "gathered weights and gradients": _gathered(student, BF16 + BF16 + FP32),
        "chunk buffers": _chunk_buffers(plan),
        "hidden states": BF16 * plan.teacher.text.hidden_size * plan.rank_rollouts * plan.response_limit,
    }
    if plan.checkpointing:
        inputs = tokens * text.num_hidden_layers * text.hidden_size + patches * vision.depth * vision.hidden_size
        layer = max(tokens * text.layer_activations, patches * vision.block_activations)
        parts["layer inputs kept by checkpointing"] = BF16 * inputs
        parts["one layer's activations, gradients"] = 2 * BF16 * layer
    else:
        parts["activations of all layers"] = BF16 * student.activations(tokens, patches)
    return parts


def _weight_sync(plan: Settings) -> dict[str, float]:
    return _between(plan) | {
        "student weights": FP32 * plan.student.total / plan.gpus,
        "vLLM weights": BF16 * plan.student.total / plan.tensor_parallel,
        "transfer buffer": plan.sync_bucket,
        "gathered tensor": FP32 * plan.student.head_size,
    }
