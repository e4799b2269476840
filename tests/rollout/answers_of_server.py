"""``python -m tests.rollout.answers_of_server``: what vLLM's server makes of the host's answers, as JSON.

A process of its own: the host's server can be imported on the platform of the CPU only, which is chosen once.
"""

import asyncio
import json
from types import SimpleNamespace

import verl  # noqa: F401  (first: its plugins choose the platform)
from verl.workers.rollout.replica import TokenOutput
from verl.workers.rollout.vllm_rollout import vllm_async_server

from verl_vaopd.rollout.prompt_server import PromptReplica, vLLMHttpServer
from verl_vaopd.rollout.same_prompt import RAN


def answer(stop_reason: str) -> list[int] | str:
    async def generate(*_, **__):
        return TokenOutput(token_ids=[7, 8], stop_reason=stop_reason, extra_fields={})

    vllm_async_server.vLLMHttpServer.generate = generate
    server = object.__new__(vLLMHttpServer)
    server.prompts = {"a": [1, 2]}
    try:
        ran = asyncio.run(server.generate([1], {}, "a")).extra_fields[RAN]
    except RuntimeError as error:
        ran = str(error)
    assert server.prompts == {}
    return ran


if __name__ == "__main__":
    replica = object.__new__(PromptReplica)
    replica.config = SimpleNamespace(max_num_seqs=64)
    answers = {reason: answer(reason) for reason in ("completed", "aborted", "error")}
    print(json.dumps(answers | {"calls": replica.max_concurrency}))
