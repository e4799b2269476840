"""A rollout that is interrupted keeps its tokens, and says which weights wrote them."""

import asyncio
from types import SimpleNamespace

import pytest
import torch
from verl.workers.rollout.llm_server import LLMServerClient
from verl.workers.rollout.replica import TokenOutput

from verl_vaopd.rollout.partial import WRITTEN_BY, PartialRolloutClient, versions
from verl_vaopd.rollout.same_prompt import RAN


@pytest.fixture
def ask(monkeypatch):
    """``ask(pieces, **sampling_params)``: the answer that vLLM gives in pieces (version, tokens, stop reason), and what
    it was asked each time."""

    def answer(pieces, changed=lambda ids: ids, **sampling_params):
        asked, waiting = [], list(pieces)

        async def piece(self, request_id, *, prompt_ids, sampling_params, **_):
            asked.append((list(prompt_ids), dict(sampling_params)))
            version, tokens, reason = waiting.pop(0)
            return TokenOutput(
                token_ids=tokens,
                log_probs=[-float(token) for token in tokens],
                stop_reason=reason,
                extra_fields={"global_steps": version, RAN: changed(list(prompt_ids))},
            )

        async def no_pause(_):
            pass

        monkeypatch.setattr(LLMServerClient, "generate", piece)
        monkeypatch.setattr(asyncio, "sleep", no_pause)
        rollout = SimpleNamespace(response_length=64)
        client = PartialRolloutClient(SimpleNamespace(actor_rollout_ref=SimpleNamespace(rollout=rollout)))
        output = asyncio.run(client.generate("r", prompt_ids=[1, 2], sampling_params=sampling_params))
        assert client.pieces == {}
        return output, asked

    return answer


def test_a_rollout_goes_on_after_what_it_has(ask):
    output, asked = ask([(4, [7, 8, 9], "aborted"), (5, [], "aborted"), (6, [5], "completed")], seed=40)
    assert output.token_ids == [7, 8, 9, 5] and output.log_probs == [-7.0, -8.0, -9.0, -5.0]
    assert [prompt for prompt, _ in asked] == [[1, 2], [1, 2, 7, 8, 9], [1, 2, 7, 8, 9]]
    assert [params["max_tokens"] for _, params in asked] == [64, 61, 61]
    # With the seed that it began with, the fourth token would be drawn by the numbers of the first.
    assert [params["seed"] for _, params in asked] == [40, 43, 43]
    assert output.extra_fields[WRITTEN_BY] == [(4, 3), (5, 0), (6, 1)]
    assert output.extra_fields[RAN] == [1, 2]  # not what the later pieces ran
    assert versions(output.extra_fields[WRITTEN_BY], 4).tolist() == [4, 4, 4, 6]


def test_what_is_written_at_once_is_of_one_version(ask):
    output, asked = ask([(2, [7, 8], "completed")])
    assert len(asked) == 1 and "seed" not in asked[0][1]
    assert torch.equal(versions(output.extra_fields[WRITTEN_BY], 2), torch.tensor([2, 2]))


def test_a_rollout_that_is_interrupted_before_its_first_token(ask):
    output, _ = ask([(2, [], "aborted"), (3, [7], "completed")])
    assert output.extra_fields[WRITTEN_BY] == [(2, 0), (3, 1)] and output.extra_fields[RAN] == [1, 2]


def test_an_answer_that_is_changed_before_it_goes_on_is_refused(ask):
    """As a processor may that merges tokens over prompt and answer."""
    pieces = [(4, [7, 8, 8], "aborted"), (5, [5], "completed")]
    ask(pieces)
    with pytest.raises(RuntimeError, match="trainer_mode=sync"):
        ask(pieces, changed=lambda ids: [id for at, id in enumerate(ids) if not at or ids[at - 1] != id])


def test_tokens_past_the_limit_are_not_counted():
    assert versions([(1, 2), (3, 2)], 3).tolist() == [1, 1, 3]
