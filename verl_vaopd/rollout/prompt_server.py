"""vLLM's server, which says with every answer which prompt it ran, and gives no half of an answer for a whole one."""

from functools import partial

import ray
from verl.workers.rollout.replica import TokenOutput
from verl.workers.rollout.vllm_rollout import vllm_async_server

from verl_vaopd.rollout.same_prompt import RAN, noting


class vLLMHttpServer(vllm_async_server.vLLMHttpServer):  # Ray's processes are called so
    """Differs from the host's in two things: an answer's ``extra_fields`` have the prompt's ids as vLLM made them, with
    image tokens expanded; and an answer that vLLM gave up is an error."""

    async def run_server(self, args) -> None:
        await super().run_server(args)
        self.prompts: dict[str, list[int]] = {}
        self.engine.generate = partial(noting, self.engine.generate, self.prompts)

    async def generate(self, prompt_ids, sampling_params, request_id, **request) -> TokenOutput:
        output = await super().generate(prompt_ids, sampling_params, request_id, **request)
        if output.stop_reason == "error":
            self.prompts.pop(request_id, None)
            raise RuntimeError(f"vLLM gave up an answer after {len(output.token_ids)} tokens: its log says why")
        output.extra_fields[RAN] = self.prompts.pop(request_id, None)  # None: refused before it ran
        return output


class PromptReplica(vllm_async_server.vLLMReplica):
    """The host's, of servers as above."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.server_class = ray.remote(vLLMHttpServer)

    @property
    def max_concurrency(self) -> int:
        """Calls at a time. The host's 1,000 are full where as many answers wait for the next weights, and the call that
        would let them go on then waits behind them."""
        return max(super().max_concurrency, 100_000)
