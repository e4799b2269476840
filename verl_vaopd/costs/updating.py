"""The student's phases on one GPU: forward and backward, the optimiser, its weights' way to vLLM."""

from verl_vaopd.costs.counts import Counts
from verl_vaopd.costs.held import COPIES, Loss, fullest, student_moments
from verl_vaopd.costs.phase import Phase
from verl_vaopd.costs.shapes import BF16, FP32

# HBM bytes per response token and head row, counted over the passes of algorithm/*.py: bf16 logits and gradients, fp32
# log-softmaxes.
FUSED_LOSS_BYTES = 74  # 8 for either model; log ratio 12, exp 8, product 12, sum 4, gradient 12 + 6; read by 2 GEMMs 4
HELD_LOSS_BYTES = 120  # the same from held logits, softmaxes and KL formed again in backward
# Twice: logits, in fp32, over the temperature; then two log-sum-exps (forward), the gradient (backward).
POLICY_LOSS_BYTES = 106  # 48 forward, 58 backward


def head_products(step: Counts) -> int:
    """FLOPs per response token. From the teacher: logits of both and two gradients; a policy forms its logits twice."""
    made, head = step.implementation, step.student.text.head_flops
    flops = 0
    if made.distils:
        flops += (2 + step.trained.head_weights) * head + (0 if made.held_logits else step.teacher.text.head_flops)
    if made.rewarded or not made.distils:
        flops += (3 + step.trained.head_weights) * head
    return flops


def loss_bytes(step: Counts, rows: float) -> float:
    """HBM bytes of the loss: heads and the head's gradient chunk by chunk, and what is done to the logits."""
    made, head, logits = step.implementation, step.student.head_size, rows * step.student.text.vocab_size
    if made.held_logits:
        return 3 * BF16 * head + logits * HELD_LOSS_BYTES
    chunks, total = rows / made.chunk_rows, 0.0
    if made.distils:
        # Per chunk: the student's head is read twice, the teacher's once, the head's gradient is added to.
        total += chunks * ((4 * BF16 + 2 * FP32) * head + BF16 * step.teacher.head_size) + logits * FUSED_LOSS_BYTES
    if made.rewarded or not made.distils:
        total += chunks * (5 * BF16 + 2 * FP32) * head + logits * POLICY_LOSS_BYTES
    return total


def updating(step: Counts) -> Phase:
    """Forward, recomputation and backward, and the loss.

    The weights are gathered twice (forward; backward with its recomputation) and their gradients reduced in fp32 in
    every micro-batch. HBM: 2 gathers write the weights, 3 passes read them; gradients are written and read in bf16
    and written in fp32; activations are written and read in forward and recomputation, and in backward read while
    their gradients are written and read.
    """
    made, student, views = step.implementation, step.student, step.student_views
    rows, batches = views * step.rows, step.micro_batches(views)
    linear, scores = student.training_flops(step.tokens, step.pairs, step.copies, step.patches(student), step.learns)
    head = step.workload.response_tokens * head_products(step)
    loss = Loss(made.distils, made.chunk_rows, made.rewarded, made.held_logits)
    moments = student_moments(student, step.micro_batch(student, views, batches), checkpointing=True, loss=loss)
    handed_over, share = {}, step.trained.parameters / student.total
    if made.held_logits:
        handed_over["teacher logits"] = BF16 * rows * student.text.vocab_size
    elif made.distils:
        handed_over["hidden states"] = COPIES * BF16 * rows * step.teacher.text.hidden_size
    return Phase(
        "student",
        flops=views * (linear + scores + head) / step.gpus,
        hbm=batches * (5 * BF16 * student.total + (2 * BF16 + FP32) * step.trained.parameters)
        + (2 + 2 + 3) * BF16 * views * step.activations(student)
        + loss_bytes(step, rows),
        nvlink=batches * (2 * step.sharded(student, BF16) + step.sharded(student, FP32) * share),
        host=handed_over.get("hidden states", 0) / COPIES,
        memory=step.resident
        | {"gradients": FP32 * step.trained.parameters / step.gpus}
        | handed_over
        | fullest(moments),
    )


def optimising(step: Counts) -> Phase:
    """On fp32 shards: clipping reads the gradient, then reads and writes it; AdamW reads four, writes three."""
    shard = FP32 * step.trained.parameters / step.gpus
    return Phase(
        "optimiser",
        hbm=(3 + 7) * shard,
        memory=step.resident | {"gradients": shard, "temporaries of AdamW": shard},
    )


def weight_sync(step: Counts) -> Phase:
    """Tensor by tensor: gathered as stored (fp32), copied into a buffer, read from there by vLLM, kept in bf16."""
    student = step.student
    return Phase(
        "weight sync",
        hbm=(2 * FP32 + 2 * FP32 + BF16) * student.total,
        nvlink=step.sharded(student, FP32),
        memory=step.resident
        | {
            "vLLM's weights": BF16 * student.total,
            "transfer buffer": step.assumptions.sync_bucket * 2**30,
            "gathered tensor": FP32 * student.head_size,
        },
    )
