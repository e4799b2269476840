"""Generation on one GPU: the prompts' prefill, then decoding, on the GPU that has the longest rollout."""

import math

from verl_vaopd.costs.counts import Counts
from verl_vaopd.costs.held import Parts
from verl_vaopd.costs.phase import Phase
from verl_vaopd.costs.shapes import BF16


def generating(step: Counts) -> Parts:
    """What is held meanwhile."""
    return step.resident | {"vLLM": step.assumptions.vllm_memory * step.device.memory}


def prefill(step: Counts) -> Phase:
    """Every prompt once, image included: ceil(B / g) on a GPU; weights are read once."""
    load, student = step.workload, step.student
    prompts = math.ceil(load.prompts / step.gpus)
    tokens, patches = prompts * load.prompt_tokens, step.patches(student)
    linear, scores = student.forward_flops(tokens, prompts * load.prompt_pairs, prompts, patches)
    traffic = 2 * BF16 * student.activations(tokens, prompts * patches)  # written once, read once
    return Phase("generation: prefill", linear + scores, BF16 * student.total + traffic, memory=generating(step))


def decode(step: Counts) -> Phase:
    """ceil(N / g) sequences, one of them the longest: as many decoding steps as it has tokens.

    Each step reads the decoder's and the head's weights once, of experts those that its sequences meet
    (:meth:`ExpertsTextShape.touched`); each token reads the keys and values it attends to.
    """
    load, text = step.workload, step.student.text
    count = math.ceil(load.count / step.gpus)
    tokens = load.response_longest + (count - 1) * load.other_length
    pairs = load.response_pairs(count)
    read = step.student.total - step.student.parameters["vision"]
    if not step.student.tied:
        read -= step.student.parameters["embedding"]  # one row of it per token
    together = load.other_length if count > 1 else 0  # steps of all sequences; after them one is left
    unread = together * text.unread(count) + (load.response_longest - together) * text.unread(1)
    return Phase(
        "generation: decode",
        flops=tokens * (text.linear_flops + text.head_flops) + pairs * text.score_flops,
        hbm=BF16 * (load.response_longest * read - unread) + pairs * text.kv_bytes,
        latency=load.response_longest * step.assumptions.decode_latency,
        memory=generating(step),
    )
