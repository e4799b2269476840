"""The teacher's phase on one GPU."""

from verl_vaopd.costs.counts import Counts
from verl_vaopd.costs.held import fullest, teacher_moments
from verl_vaopd.costs.phase import Phase
from verl_vaopd.costs.shapes import BF16

# HBM bytes per response token and head row, counted over the passes of algorithm/token_log_probs.py.
SCORING_BYTES = 8  # write and read the bf16 logits, write the fp32 log-softmax


def scoring(step: Counts) -> Phase:
    """One forward of all views, the head for the response tokens of each; weights gathered once per micro-batch.

    HBM: a gather writes the weights, the forward reads them; activations are written and read. Host: shards in and out
    where offloaded, hidden states of the original view out.
    """
    made, teacher, rows, views = step.implementation, step.teacher, step.rows, step.teacher_views
    batches = step.micro_batches(views, step.assumptions.teacher_micro_batch_tokens)
    linear, scores = teacher.forward_flops(step.tokens, step.pairs, step.copies, step.patches(teacher))
    head = step.workload.response_tokens * teacher.text.head_flops
    shard = BF16 * teacher.total / step.gpus
    logits = BF16 * rows * teacher.text.vocab_size
    hidden = BF16 * rows * teacher.text.hidden_size if made.distils and not made.held_logits else 0
    head_reads = 1 if made.held_logits else rows * views / made.chunk_rows
    moments = teacher_moments(teacher, step.micro_batch(teacher, views, batches), made.chunk_rows, whole=False)
    handed_on = {"teacher logits": logits} if made.held_logits else {"hidden states": hidden}
    return Phase(
        "teacher",
        flops=views * (linear + scores + head) / step.gpus,
        hbm=2 * batches * BF16 * teacher.total
        + 2 * BF16 * views * step.activations(teacher)
        + BF16 * head_reads * teacher.head_size
        + (logits if made.held_logits else views * rows * SCORING_BYTES * teacher.text.vocab_size),
        nvlink=batches * step.sharded(teacher, BF16),
        host=(2 * shard if made.teacher_offload else 0) + hidden,
        memory=step.resident | {"teacher weights": shard} | handed_on | fullest(moments),
    )
