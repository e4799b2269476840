"""Rollouts that are interrupted at the end of a step, keep their tokens and go on under the next weights."""

import torch
from verl.workers.rollout.llm_server import FullyAsyncLLMServerClient, LLMServerClient

WRITTEN_BY = "written_by"
"""Where a finished rollout says which weights wrote it: [(version, tokens)], in the order of its tokens."""
VERSION = "weight_version"
"""The column of a rollout with the version of the weights that wrote each token, int64 [T]."""


class Pieces(LLMServerClient):
    """Keeps count of the pieces in which a rollout is written."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.pieces: dict[str, list[tuple[int, int]]] = {}

    async def generate(self, request_id, *, sampling_params, **request):
        """One piece, to the end of the answer or to the next interruption.

        A seeded rollout (``vaopd.seed_rollouts``) goes on with another seed: vLLM would draw the same numbers again.
        """
        pieces = self.pieces.setdefault(request_id, [])
        if "seed" in sampling_params:
            seed = sampling_params["seed"] + sum(tokens for _, tokens in pieces)
            sampling_params = {**sampling_params, "seed": seed & 0x7FFFFFFF}
        output = await super().generate(request_id, sampling_params=sampling_params, **request)
        pieces.append((output.extra_fields["global_steps"], len(output.token_ids)))
        return output


class PartialRolloutClient(FullyAsyncLLMServerClient, Pieces):
    """The host's client, which goes on with what was interrupted; here it also says which weights wrote what."""

    async def generate(self, request_id, **request):
        try:
            output = await super().generate(request_id, **request)
            output.extra_fields[WRITTEN_BY] = self.pieces[request_id]
        finally:
            self.pieces.pop(request_id, None)
        return output


def versions(written_by: list[tuple[int, int]], length: int) -> torch.Tensor:
    """The version of the weights that wrote each of the first ``length`` tokens, int64 [length].

    Args:
        written_by: (version, tokens), in the order of the tokens.
    """
    each = [torch.full((tokens,), version) for version, tokens in written_by]
    return torch.cat(each)[:length]
