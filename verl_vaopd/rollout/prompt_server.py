"""vLLM's server, which says with every answer which prompt it ran."""

from functools import partial

import ray
from verl.workers.rollout.replica import TokenOutput
from verl.workers.rollout.vllm_rollout import vllm_async_server

from verl_vaopd.rollout.same_prompt import RAN, noting


class vLLMHttpServer(vllm_async_server.vLLMHttpServer):  # Ray's processes are called so
    """Differs from the host's in one thing: an answer's ``extra_fields`` have the prompt's ids as vLLM made them, image
    tokens expanded."""

    async def run_server(self, args) -> None:
        await super().run_server(args)
        self.prompts: dict[str, list[int]] = {}
        self.engine.generate = partial(noting, self.engine.generate, self.prompts)

    async def generate(self, prompt_ids, sampling_params, request_id, **request) -> TokenOutput:
        output = await super().generate(prompt_ids, sampling_params, request_id, **request)
        output.extra_fields[RAN] = self.prompts.pop(request_id, None)  # None: refused before it ran
        return output


class PromptReplica(vllm_async_server.vLLMReplica):
    """The host's, of servers as above."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.server_class = ray.remote(vLLMHttpServer)
