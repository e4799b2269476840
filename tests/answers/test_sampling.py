"""What can be said of sampling without vLLM: rows need ids of their own, and what may not be sampled."""

from types import SimpleNamespace

import pytest

from verl_vaopd.answers.sampling import answer_rows, banned_ids, row_ids
from verl_vaopd.tiny.processor import make_processor


def dataset(*infos):
    return SimpleNamespace(dataframe={"extra_info": list(infos)})


def test_rows_are_known_by_their_id():
    assert row_ids(dataset({"id": "a"}, {"id": "b"})) == ["a", "b"]
    with pytest.raises(ValueError, match="row 1 of data.train_files has no extra_info.id"):
        row_ids(dataset({"id": "a"}, None))
    with pytest.raises(ValueError, match="two rows of data.train_files have the extra_info.id 'a'"):
        row_ids(dataset({"id": "a"}, {"id": "b"}, {"id": "a"}))


def test_padding_and_placeholders_are_banned():
    processor = make_processor()
    ids = len(processor.tokenizer)
    placeholders = [processor.tokenizer.convert_tokens_to_ids(f"<|{name}_pad|>") for name in ("image", "video")]
    assert sorted(banned_ids(processor, ids + 3)) == sorted([*placeholders, ids, ids + 1, ids + 2])


def test_an_answer_that_vllm_gave_up_is_not_stored():
    """vLLM raises nothing: the answer ends in the middle, with the reason ``error``."""
    row = {"raw_prompt": [{"role": "user", "content": "Add 3 and 4."}], "data_source": "synthetic_geometry"}
    row["reward_model"] = {"ground_truth": "7"}

    def written(reason):
        logprobs = [{5: SimpleNamespace(logprob=-0.5)}]
        output = SimpleNamespace(token_ids=[5], logprobs=logprobs, text="\\boxed{7}", finish_reason=reason)
        engine = SimpleNamespace(generate=lambda *_, **__: [SimpleNamespace(outputs=[output])])
        return answer_rows(engine, [row], ["a"], make_processor(), None, {})

    (stored,) = written("stop")
    assert stored["token_ids"] == [5] and stored["accuracy"] == 1.0
    with pytest.raises(RuntimeError, match="gave up an answer to row a after 1 tokens"):
        written("error")
