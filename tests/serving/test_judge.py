import openai
import pytest

from verl_vaopd.serving import EvaluationError, judge
from verl_vaopd.serving.journal import Journal
from verl_vaopd.serving.server import free_port

REQUEST = {"model": "judge", "messages": [{"role": "user", "content": "Is 1 equal to 1.0?"}], "temperature": 0}


@pytest.fixture
def unreachable(tmp_path, monkeypatch):
    """A relay to a judge that is not there."""
    monkeypatch.setattr(judge, "RETRIES", 0)
    cache = Journal(tmp_path / "judge.jsonl")
    with judge.JudgeRelay(f"http://127.0.0.1:{free_port()}/v1", "the-judge", "none", cache) as relay:
        yield relay


def test_a_judge_that_dies_ends_the_run(unreachable):
    ended = []
    unreachable.on_death = lambda: ended.append(True)
    for number in range(judge.DEAD_AFTER):
        assert not ended
        assert unreachable.answer({**REQUEST, "temperature": number / 10}) is None
    assert ended == [True] and "stopped answering" in unreachable.dead
    assert len(unreachable.failures) == judge.DEAD_AFTER
    with pytest.raises(EvaluationError, match="no judge answers"):
        unreachable.check()


def test_the_toolkit_is_told_of_a_failure_and_given_cached_answers(unreachable):
    """Asked as the toolkit asks, over HTTP; an answer is known by prompt, temperature and the judge's own name."""
    base = unreachable.url.removesuffix("/chat/completions")
    client = openai.OpenAI(base_url=base, api_key="none", max_retries=0)
    with pytest.raises(openai.InternalServerError):
        client.chat.completions.create(**REQUEST)
    assert len(unreachable.failures) == 1
    key = next(iter(unreachable.failures))
    unreachable.cache.append({"key": key, "model": "the-judge", "answer": "1"})
    assert client.chat.completions.create(**REQUEST).choices[0].message.content == "1"
    with pytest.raises(openai.InternalServerError):
        client.chat.completions.create(**{**REQUEST, "temperature": 0.5})
