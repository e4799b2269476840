"""What can be said of sampling without vLLM: rows need ids of their own, and what may not be sampled."""

from types import SimpleNamespace

import pytest

from verl_vaopd.answers.sampling import banned_ids, row_ids
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
