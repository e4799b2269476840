"""Seconds of one vLLM replica by the roofline of costs/: each decoding step by the sequences that are left in it."""

from dataclasses import dataclass

import numpy as np

from verl_vaopd.costs.assumptions import Assumptions
from verl_vaopd.costs.devices import Device
from verl_vaopd.costs.phase import Phase
from verl_vaopd.costs.shapes import BF16, ModelShape


@dataclass(frozen=True)
class Replica:
    """The student on ``gpus`` devices (tensor parallel; what they send each other is not counted)."""

    student: ModelShape
    device: Device
    assumptions: Assumptions
    prompt_tokens: int
    """Of every prompt."""
    image_tokens: int
    """Of them."""
    gpus: int = 1

    def decoding(self, left: np.ndarray, written: np.ndarray) -> np.ndarray:
        """When each decoding step ends, in seconds after the first begins.

        Args:
            left: [n] tokens that each sequence still has to write, at least 1; written: [n] those that it has.
        Returns:
            [max(left)]: entry k - 1 is the end of step k, in which the sequences of at least k left write a token.
        """
        order = np.argsort(left)
        left, context = left[order], self.prompt_tokens + written[order]
        step = np.arange(1, left[-1] + 1)
        gone = np.searchsorted(left, step)  # sequences that ended before
        count = len(left) - gone
        # Token k of a sequence attends to k keys beyond what it had.
        keys = np.append(np.cumsum(context[::-1])[::-1], 0)[gone] + count * step
        text, parameters = self.student.text, self.student.parameters
        read = self.student.total - parameters["vision"] - (0 if self.student.tied else parameters["embedding"])
        flops = count * (text.linear_flops + text.head_flops) + keys * text.score_flops
        hbm = BF16 * (read - text.unread(count)) + keys * text.kv_bytes
        compute = flops / self.gpus / (self.device.bf16_flops * self.assumptions.compute)
        memory = hbm / self.gpus / (self.device.hbm * self.assumptions.hbm)
        return np.cumsum(np.maximum(compute, memory) + self.assumptions.decode_latency)

    def prefill(self, prompts: int, written: np.ndarray) -> float:
        """Seconds to run ``prompts`` with their images, and again what interrupted answers had ``written`` [m]."""
        if not prompts:
            return 0.0
        tokens = prompts * self.prompt_tokens + written.sum()
        pairs = prompts * self.prompt_tokens * (self.prompt_tokens + 1) / 2
        pairs += (written * self.prompt_tokens + written * (written + 1) / 2).sum()
        patches = self.image_tokens * self.student.vision.merge
        flops = sum(self.student.forward_flops(tokens, pairs, prompts, patches))
        hbm = BF16 * self.student.total + 2 * BF16 * self.student.activations(tokens, prompts * patches)
        return Phase("prefill", flops / self.gpus, hbm / self.gpus).seconds(self.device, self.assumptions)
