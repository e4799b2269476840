"""A roofline of one training step: FLOPs, bytes, peak memory and predicted seconds of each phase, on one GPU.

Symbols of the docstrings: B prompts, K rollouts of each, N = B K, P prompt tokens, R response tokens of a rollout, T of
all rollouts, g GPUs. The quantities of a :class:`Phase` are per GPU. Work is taken to be spread evenly over the GPUs,
except in decoding, which is planned for the GPU with the longest rollout.
"""

import math
from dataclasses import dataclass

from verl_vaopd.costs.assumptions import Assumptions, Implementation
from verl_vaopd.costs.devices import Device
from verl_vaopd.costs.phase import Phase
from verl_vaopd.costs.shapes import BF16, FP32, ModelShape
from verl_vaopd.costs.workload import Workload

# HBM bytes per response token and head row, counted over the passes of algorithm/*.py: bf16 logits and gradients, fp32
# log-softmaxes.
SCORING_BYTES = 8  # write and read the logits, write the log-softmax
FUSED_LOSS_BYTES = 74  # 8 for either model; log ratio 12, exp 8, product 12, sum 4, gradient 12 + 6; read by 2 GEMMs 4
HELD_LOSS_BYTES = 120  # the same from held logits, softmaxes and KL formed again in backward


@dataclass(frozen=True)
class Step:
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

    def __post_init__(self):
        if self.gpus < 1:
            raise ValueError(f"gpus must be at least 1, got {self.gpus}")

    def phases(self) -> list[Phase]:
        """In the order of the step."""
        coefficients = Phase("coefficients (driver)", memory=self._resident())
        generation = [self._prefill(), self._decode()]
        return [*generation, self._teacher(), coefficients, self._student(), self._optimiser(), self._weight_sync()]

    @property
    def seconds(self) -> float:
        """Predicted, of the whole step."""
        return sum(phase.seconds(self.device, self.assumptions) for phase in self.phases())

    @property
    def peak(self) -> Phase:
        """The phase that needs most memory."""
        return max(self.phases(), key=lambda phase: phase.peak_memory)

    # Counts

    @property
    def views(self) -> int:
        """Views that the teacher scores: without an image there is no second one."""
        return self.implementation.views if self.workload.image_tokens else 1

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

    def _activations(self, model: ModelShape) -> float:
        """Elements written by one forward under one view, per GPU."""
        return model.activations(self.tokens, self.copies * self.patches(model)) / self.gpus

    def _sharded(self, model: ModelShape, size: int) -> float:
        """Bytes that a GPU receives in an all-gather, or sends in a reduce-scatter, of all parameters."""
        return size * model.total * (self.gpus - 1) / self.gpus

    @property
    def _rows(self) -> float:
        """Response tokens per GPU."""
        return self.workload.response_tokens / self.gpus

    # Phases

    def _resident(self) -> dict[str, float]:
        """What stays between phases: fp32 weights and AdamW's two states, sharded; the teacher's head or shards."""
        parts = {
            "student weights": FP32 * self.student.total / self.gpus,
            "AdamW states": 2 * FP32 * self.student.total / self.gpus,
        }
        if not self.implementation.held_logits:
            parts["teacher head"] = BF16 * self.teacher.head_size
        if not self.implementation.teacher_offload:
            parts["teacher weights"] = BF16 * self.teacher.total / self.gpus
        return parts

    def _generating(self) -> dict[str, float]:
        return self._resident() | {"vLLM": self.assumptions.vllm_memory * self.device.memory}

    def _prefill(self) -> Phase:
        """Every prompt once, image included: ceil(B / g) on a GPU; weights are read once."""
        load, student = self.workload, self.student
        prompts = math.ceil(load.prompts / self.gpus)
        tokens, patches = prompts * load.prompt_tokens, self.patches(student)
        linear, scores = student.forward_flops(tokens, prompts * load.prompt_pairs, prompts, patches)
        traffic = 2 * BF16 * student.activations(tokens, prompts * patches)  # written once, read once
        return Phase("generation: prefill", linear + scores, BF16 * student.total + traffic, memory=self._generating())

    def _decode(self) -> Phase:
        """ceil(N / g) sequences, one of them the longest: as many decoding steps as it has tokens.

        Each step reads the decoder's and the head's weights once; each token reads the keys and values it attends to.
        """
        load, text = self.workload, self.student.text
        count = math.ceil(load.count / self.gpus)
        tokens = load.response_longest + (count - 1) * load.other_length
        pairs = load.response_pairs(count)
        read = self.student.total - self.student.parameters["vision"]
        if not self.student.tied:
            read -= self.student.parameters["embedding"]  # one row of it per token
        return Phase(
            "generation: decode",
            flops=tokens * (text.linear_flops + text.head_flops) + pairs * text.score_flops,
            hbm=load.response_longest * BF16 * read + pairs * text.kv_bytes,
            latency=load.response_longest * self.assumptions.decode_latency,
            memory=self._generating(),
        )

    def _gathered(self, model: ModelShape, size: int) -> float:
        """``size`` bytes per weight of what FSDP holds unsharded at once: the head, a layer and the prefetched next."""
        return size * (model.head_size + 2 * model.text.layer_parameters)

    def _chunk_buffers(self) -> float:
        """Fused: bf16 logits of both models, float32 softmaxes of 64 rows. Else three float32 tensors per chunk."""
        rows, vocabulary = self.implementation.chunk_rows, self.student.text.vocab_size
        if self.implementation.held_logits:
            return 3 * FP32 * rows * vocabulary
        return 2 * (BF16 * rows + FP32 * 64) * vocabulary

    def _teacher(self) -> Phase:
        """One forward of all views, the head for the response tokens of each; weights gathered once per micro-batch.

        HBM: a gather writes the weights, the forward reads them; activations are written and read. Host: shards in and
        out where offloaded, hidden states of the original view out.
        """
        made, teacher, rows = self.implementation, self.teacher, self._rows
        batches = self.micro_batches(self.views, self.assumptions.teacher_micro_batch_tokens)
        linear, scores = teacher.forward_flops(self.tokens, self.pairs, self.copies, self.patches(teacher))
        head = self.workload.response_tokens * teacher.text.head_flops
        shard = BF16 * teacher.total / self.gpus
        hidden = BF16 * rows * teacher.text.hidden_size
        logits = BF16 * rows * teacher.text.vocab_size
        head_reads = 1 if made.held_logits else rows * self.views / made.chunk_rows
        widest = max(
            self.tokens * teacher.text.widest_activations,
            self.copies * self.patches(teacher) * teacher.vision.block_activations,
        )
        memory = self._resident() | {
            "teacher weights": shard,
            "gathered weights": self._gathered(teacher, BF16),
            "activations": BF16 * self.views * widest / self.gpus / batches,
        }
        if made.held_logits:
            memory["teacher logits"] = logits
        else:
            memory["hidden states"] = (1 + self.views / batches) * hidden  # handed on, and a micro-batch's
            memory["chunk buffers"] = self._chunk_buffers()
        return Phase(
            "teacher",
            flops=self.views * (linear + scores + head) / self.gpus,
            hbm=2 * batches * BF16 * teacher.total
            + 2 * BF16 * self.views * self._activations(teacher)
            + BF16 * head_reads * teacher.head_size
            + (logits if made.held_logits else self.views * rows * SCORING_BYTES * teacher.text.vocab_size),
            nvlink=batches * self._sharded(teacher, BF16),
            host=(2 * shard if made.teacher_offload else 0) + (0 if made.held_logits else hidden),
            memory=memory,
        )

    def _student(self) -> Phase:
        """Forward, recomputation and backward; three products with the student's head, one with the teacher's.

        The weights are gathered twice (forward; backward with its recomputation) and their gradients reduced in fp32 in
        every micro-batch. HBM: 2 gathers write the weights, 3 passes read them; gradients are written and read in bf16
        and written in fp32; activations are written and read in forward and recomputation, and in backward read while
        their gradients are written and read.
        """
        made, student, rows = self.implementation, self.student, self._rows
        batches = self.micro_batches(1)
        text, vision = student.text, student.vision
        linear, scores = student.training_flops(self.tokens, self.pairs, self.copies, self.patches(student))
        head = 3 * text.head_flops + (0 if made.held_logits else self.teacher.text.head_flops)
        logits = rows * text.vocab_size  # elements
        hidden = BF16 * rows * self.teacher.text.hidden_size
        patches = self.copies * self.patches(student)
        inputs = self.tokens * text.num_hidden_layers * text.hidden_size + patches * vision.depth * vision.hidden_size
        layer = max(self.tokens * text.layer_activations, patches * vision.block_activations)
        memory = self._resident() | {
            "gradients": FP32 * student.total / self.gpus,
            "gathered weights and gradients": self._gathered(student, BF16 + BF16 + FP32),
            "layer inputs kept by checkpointing": BF16 * inputs / self.gpus / batches,
            "one layer's activations": BF16 * layer / self.gpus / batches,
            "chunk buffers": self._chunk_buffers(),
        }
        if made.held_logits:
            memory["student logits and their gradient"] = 2 * BF16 * logits / batches
            memory["teacher logits"] = BF16 * logits
            head_bytes = 3 * BF16 * student.head_size
        else:
            memory["hidden states"] = hidden
            # Per chunk: the student's head is read twice, the teacher's once, the head's gradient is added to.
            per_chunk = (2 * BF16 + 2 * BF16 + 2 * FP32) * student.head_size + BF16 * self.teacher.head_size
            head_bytes = rows / made.chunk_rows * per_chunk
        return Phase(
            "student",
            flops=(linear + scores + self.workload.response_tokens * head) / self.gpus,
            hbm=batches * (5 * BF16 + 2 * BF16 + FP32) * student.total
            + (2 + 2 + 3) * BF16 * self._activations(student)
            + head_bytes
            + logits * (HELD_LOSS_BYTES if made.held_logits else FUSED_LOSS_BYTES),
            nvlink=batches * (2 * self._sharded(student, BF16) + self._sharded(student, FP32)),
            host=0 if made.held_logits else hidden,
            memory=memory,
        )

    def _optimiser(self) -> Phase:
        """On fp32 shards: clipping reads the gradient, then reads and writes it; AdamW reads four, writes three."""
        shard = FP32 * self.student.total / self.gpus
        return Phase("optimiser", hbm=(3 + 7) * shard, memory=self._resident() | {"gradients": shard})

    def _weight_sync(self) -> Phase:
        """Tensor by tensor: gathered as stored (fp32), copied into a buffer, read from there by vLLM, kept in bf16."""
        student = self.student
        return Phase(
            "weight sync",
            hbm=(2 * FP32 + 2 * FP32 + BF16) * student.total,
            nvlink=self._sharded(student, FP32),
            memory=self._resident()
            | {
                "vLLM's weights": BF16 * student.total,
                "transfer buffer": self.assumptions.sync_bucket * 2**30,
                "gathered tensor": FP32 * student.head_size,
            },
        )
