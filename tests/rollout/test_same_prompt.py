"""What vLLM made of a prompt is held against what the processor makes of it, rollout by rollout."""

import asyncio
from types import SimpleNamespace

import pytest
from verl.experimental.agent_loop.single_turn_agent_loop import SingleTurnAgentLoop
from verl.workers.rollout.replica import TokenOutput

from verl_vaopd.rollout.same_prompt import RAN, noting, require_same_prompt
from verl_vaopd.rollout.single_turn import UnexpandedPromptAgentLoop
from verl_vaopd.tiny.processor import make_processor

CHAT = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Add."}]}]


def test_counts_and_the_first_difference_are_named():
    require_same_prompt([1, 9, 9, 2], [1, 9, 9, 2])
    require_same_prompt([1, 9, 9, 2], None)  # vLLM refused it before it ran
    with pytest.raises(ValueError, match="of 6 tokens, the processor makes 4 of it; they part at place 3: 9 against 2"):
        require_same_prompt([1, 9, 9, 2], [1, 9, 9, 9, 9, 2])
    with pytest.raises(ValueError, match="they part at place 2: nothing against 9"):
        require_same_prompt([1, 9, 9], [1, 9])


def test_the_servers_answer_has_the_prompt_that_the_engine_says():
    async def generate(prompt, request_id):
        for _ in range(2):
            yield SimpleNamespace(prompt_token_ids=[prompt, 7])

    async def both():
        prompts = {}
        outputs = [output async for output in noting(generate, prompts, prompt=5, request_id="a")]
        outputs += [output async for output in noting(generate, prompts, 6, request_id="b")]
        return len(outputs), prompts

    assert asyncio.run(both()) == (4, {"a": [5, 7], "b": [6, 7]})


@pytest.mark.parametrize("twice", [False, True])
def test_a_rollout_of_another_prompt_fails(monkeypatch, twice):
    """vLLM is sent one placeholder an image; here it makes four tokens of it, as the processor does, or eight."""
    processor, sent = make_processor(), []
    image = processor.image_token_id

    async def generate(prompt_ids, **request):
        sent.append(prompt_ids)
        place = prompt_ids.index(image)
        ran = [*prompt_ids[:place], *[image] * (8 if twice else 4), *prompt_ids[place + 1 :]]
        return TokenOutput(token_ids=[1], extra_fields={RAN: ran})

    async def host(self, sampling_params, raw_prompt):
        one = processor.tokenizer(processor.apply_chat_template(raw_prompt, add_generation_prompt=True, tokenize=False))
        place = one["input_ids"].index(image)
        expanded = [*one["input_ids"][:place], *[image] * 4, *one["input_ids"][place + 1 :]]
        return await self.server_manager.generate(prompt_ids=expanded, request_id="r")

    monkeypatch.setattr(SingleTurnAgentLoop, "run", host)
    loop = UnexpandedPromptAgentLoop.__new__(UnexpandedPromptAgentLoop)
    loop.processor, loop.server_manager = processor, SimpleNamespace(generate=generate)
    loop.data_config = SimpleNamespace(apply_chat_template_kwargs={})
    if twice:
        with pytest.raises(ValueError, match=r"vLLM ran a prompt of .* against"):
            asyncio.run(loop.run({}, raw_prompt=CHAT))
    else:
        output = asyncio.run(loop.run({}, raw_prompt=CHAT))
        assert output.extra_fields == {}  # it is not stored with the rollout
    assert sent[0].count(image) == 1
