"""What the phases of a step are counted from: models, batch, GPUs; tokens, query-key pairs, micro-batches.

Symbols of the docstrings: B prompts, K rollouts of each, N = B K, P prompt tokens, R response tokens of a rollout, T of
all rollouts, g GPUs.
"""

import math
from dataclasses import dataclass

from verl_vaopd.costs.assumptions import Assumptions, Implementation
from verl_vaopd.costs.devices import Device
from verl_vaopd.costs.held import MicroBatch, Parts
from verl_vaopd.costs.shapes import BF16, FP32, ModelShape
from verl_vaopd.costs.trained import Learns
from verl_vaopd.costs.workload import Workload


@dataclass(frozen=True)
class Counts:
    """One training step of ``teacher`` to ``student`` on one node of ``gpus`` devices.

    Raises:
        ValueError: fewer than one GPU.
    """

    teacher: ModelShape
    student: ModelShape
    workload: Workload
    implementation: Implementation
    device: Device
    gpus: int = 8
    assumptions: Assumptions = Assumptions()
    learns: Learns | None = None
    """What of the student is trained; None: everything."""

    def __post_init__(self):
        if self.gpus < 1:
            raise ValueError(f"gpus must be at least 1, got {self.gpus}")

    @property
    def trained(self) -> Learns:
        return self.learns or Learns.everything(self.student)

    def views(self, wanted: int) -> int:
        """Without an image there is no second one."""
        return wanted if self.workload.image_tokens else min(wanted, 1)

    @property
    def teacher_views(self) -> int:
        return self.views(self.implementation.teacher_views)

    @property
    def student_views(self) -> int:
        return self.views(self.implementation.student_views)

    @property
    def copies(self) -> int:
        """Prompts that are run under one view: B when siblings share theirs, else N."""
        return self.workload.prompts if self.implementation.shared_prompt else self.workload.count

    @property
    def tokens(self) -> float:
        """Decoder tokens of one view, all GPUs: copies P + T."""
        return self.copies * self.workload.prompt_tokens + self.workload.response_tokens

    @property
    def pairs(self) -> float:
        """Query-key pairs of one view, all GPUs. Unshared this is the sum of S (S + 1) / 2 over sequences S = P + R."""
        return self.copies * self.workload.prompt_pairs + self.workload.response_pairs(self.workload.count)

    def micro_batches(self, views: int, budget: float | None = None) -> int:
        """Per GPU, of a forward over ``views`` views; ``budget``: tokens of one, by default the student's."""
        return math.ceil(views * self.tokens / self.gpus / (budget or self.assumptions.micro_batch_tokens))

    def patches(self, model: ModelShape) -> int:
        """Of one image."""
        return self.workload.image_tokens * model.vision.merge

    def activations(self, model: ModelShape) -> float:
        """Elements written by one forward under one view, per GPU."""
        return model.activations(self.tokens, self.copies * self.patches(model)) / self.gpus

    def sharded(self, model: ModelShape, size: int) -> float:
        """Bytes that a GPU receives in an all-gather, or sends in a reduce-scatter, of all parameters."""
        return size * model.total * (self.gpus - 1) / self.gpus

    @property
    def rows(self) -> float:
        """Response tokens per GPU."""
        return self.workload.response_tokens / self.gpus

    @property
    def branch_keys(self) -> float:
        """Keys that attention copies under one view, all GPUs: of responses that share their prompt, but the first."""
        branches = self.workload.count - self.copies
        return branches * (self.workload.prompt_tokens + self.workload.response_mean)

    def micro_batch(self, model: ModelShape, views: int, batches: int) -> MicroBatch:
        """One of ``batches`` even ones, on one GPU."""
        share = views / self.gpus / batches
        return MicroBatch(
            tokens=share * self.tokens,
            patches=share * self.copies * self.patches(model),
            rows=share * self.workload.response_tokens,
            keys=share * self.branch_keys,
        )

    @property
    def resident(self) -> Parts:
        """What stays between phases: fp32 weights and AdamW's two states, sharded; the teacher's head or shards."""
        parts = {
            "student weights": FP32 * (self.student.total + self.trained.adapters) / self.gpus,
            "AdamW states": 2 * FP32 * self.trained.parameters / self.gpus,
        }
        if self.implementation.distils and not self.implementation.held_logits:
            parts["teacher head"] = BF16 * self.teacher.head_size
        if not self.implementation.teacher_offload:
            parts["teacher weights"] = BF16 * self.teacher.total / self.gpus
        return parts
