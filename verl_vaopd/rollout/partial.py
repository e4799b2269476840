"""Rollouts that are interrupted at the end of a step, keep their tokens and go on under the next weights."""

from dataclasses import dataclass, field

import torch
from verl.workers.rollout.llm_server import FullyAsyncLLMServerClient, LLMServerClient

from verl_vaopd.rollout.same_prompt import RAN

WRITTEN_BY = "written_by"
"""Where a finished rollout says which weights wrote it: [(version, tokens)], in the order of its tokens."""
VERSION = "weight_version"
"""The column of a rollout with the version of the weights that wrote each token, int64 [T]."""


@dataclass
class Pieces:
    """What is written of a rollout: (version, tokens) of each piece; its tokens; the prompt that vLLM ran first."""

    written_by: list[tuple[int, int]] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    prompt: list[int] | None = None


class CountedPieces(LLMServerClient):
    """Keeps count of the pieces in which a rollout is written."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.pieces: dict[str, Pieces] = {}

    async def generate(self, request_id, *, sampling_params, **request):
        """One piece, to the end of the answer or to the next interruption.

        A seeded rollout (``vaopd.seed_rollouts``) goes on with another seed: vLLM would draw the same numbers again.

        Raises:
            RuntimeError: vLLM went on from other tokens than those that it had written.
        """
        pieces = self.pieces.setdefault(request_id, Pieces())
        before = len(pieces.tokens)
        if "seed" in sampling_params:
            sampling_params = {**sampling_params, "seed": (sampling_params["seed"] + before) & 0x7FFFFFFF}
        output = await super().generate(request_id, sampling_params=sampling_params, **request)
        pieces.written_by.append((output.extra_fields["global_steps"], len(output.token_ids)))
        ran = output.extra_fields[RAN]
        if not before:
            pieces.prompt = ran
        elif ran is not None and ran != pieces.prompt + pieces.tokens:
            raise RuntimeError(
                "vLLM's processor changed an answer that it was given to go on with, so its tokens would not be those "
                "that are trained on: use trainer.v1.trainer_mode=sync with this model"
            )
        pieces.tokens += output.token_ids
        return output


class PartialRolloutClient(FullyAsyncLLMServerClient, CountedPieces):
    """The host's client, which goes on with what was interrupted; here it also says which weights wrote what, and still
    which prompt vLLM ran."""

    async def generate(self, request_id, **request):
        try:
            output = await super().generate(request_id, **request)
        finally:
            pieces = self.pieces.pop(request_id, Pieces())
        output.extra_fields |= {WRITTEN_BY: pieces.written_by, RAN: pieces.prompt}
        return output


def versions(written_by: list[tuple[int, int]], length: int) -> torch.Tensor:
    """The version of the weights that wrote each of the first ``length`` tokens, int64 [length].

    Args:
        written_by: (version, tokens), in the order of the tokens.
    """
    each = [torch.full((tokens,), version) for version, tokens in written_by]
    return torch.cat(each)[:length]
