"""An agent loop that gives back a stored answer where the host's would sample one."""

from types import SimpleNamespace

from verl.experimental.agent_loop.agent_loop import register
from verl.experimental.agent_loop.single_turn_agent_loop import SingleTurnAgentLoop
from verl.workers.rollout.replica import TokenOutput

STORED_ANSWER = "stored_answer"


NO_WEIGHTS = {"global_steps": -1, "min_global_steps": -1, "max_global_steps": -1}  # none of the run's wrote it


@register(STORED_ANSWER)
class StoredAnswerAgentLoop(SingleTurnAgentLoop):
    """Differs from the host's in one thing: the answer is not vLLM's. Prompt, reward and storage are the host's."""

    async def run(self, sampling_params, stored_answer: dict, **kwargs):
        """``stored_answer``: ``token_ids`` and ``log_probs`` (the teacher's, as it was sampled)."""

        async def generate(**_) -> TokenOutput:
            return TokenOutput(
                token_ids=stored_answer["token_ids"],
                log_probs=stored_answer["log_probs"],
                extra_fields=dict(NO_WEIGHTS),
            )

        self.server_manager = SimpleNamespace(generate=generate)  # of this rollout alone
        return await super().run(sampling_params, **kwargs)
