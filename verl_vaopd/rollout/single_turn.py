"""An agent loop that sends vLLM a prompt with one placeholder an image, and looks at what it made of it."""

from types import SimpleNamespace

from verl.experimental.agent_loop.agent_loop import register
from verl.experimental.agent_loop.single_turn_agent_loop import SingleTurnAgentLoop

from verl_vaopd.rollout.image_views import rendered
from verl_vaopd.rollout.same_prompt import RAN, require_same_prompt

UNEXPANDED = "unexpanded_prompt"


@register(UNEXPANDED)
class UnexpandedPromptAgentLoop(SingleTurnAgentLoop):
    """Differs from the host's in one thing: vLLM is sent the prompt as it is before the processor makes many image
    tokens of each placeholder, for vLLM does that too.

    The host sends the many, and takes them back out for Qwen's processors alone; of others vLLM would expand each.
    """

    async def run(self, sampling_params, **kwargs):
        text = rendered(self.processor, list(kwargs["raw_prompt"]), self.data_config)
        ids = self.processor.tokenizer(text)["input_ids"]
        server = self.server_manager

        async def generate(prompt_ids, **request):
            output = await server.generate(prompt_ids=ids, **request)
            require_same_prompt(prompt_ids, output.extra_fields.pop(RAN))
            return output

        self.server_manager = SimpleNamespace(generate=generate)  # of this rollout alone
        return await super().run(sampling_params, **kwargs)
