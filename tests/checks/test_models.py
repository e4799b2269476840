"""A teacher and a student that do not belong together are refused by name, before any worker exists."""

import json
import shutil

import pytest

from verl_vaopd.checks.models import check_models, check_student_heads
from verl_vaopd.tiny.models import random_models


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return random_models(tmp_path_factory.mktemp("models"))


def changed(models, tmp_path, file: str, change) -> str:
    """A copy of the teacher with one of its JSON files changed."""
    copy = tmp_path / "changed"
    shutil.copytree(models[1], copy)
    content = json.loads((copy / file).read_text())
    change(content)
    (copy / file).write_text(json.dumps(content))
    return str(copy)


def head_rows(path) -> int:
    return json.loads((path / "config.json").read_text())["text_config"]["vocab_size"]


def test_models_that_fit_pass(models):
    assert head_rows(models[0]) != head_rows(models[1])  # padded to different sizes
    assert check_models(str(models[0]), str(models[1])).tokenizer.eos_token == "<|im_end|>"


@pytest.mark.parametrize("path", ["/no/such/folder", "no-such-owner/no-such-model"])
def test_model_that_is_nowhere_is_named(models, path):
    with pytest.raises(ValueError, match=f"{path} is no folder here"):
        check_models(str(models[0]), path)


def swap_two_ids(tokenizer):
    vocab = tokenizer["model"]["vocab"]
    first, second = list(vocab)[:2]
    vocab[first], vocab[second] = vocab[second], vocab[first]


@pytest.mark.parametrize(
    "file, change, says",
    [
        ("tokenizer.json", swap_two_ids, "tokenizer ids"),
        ("tokenizer.json", lambda t: t["model"]["merges"].reverse(), "tokenizer merges"),
        ("config.json", lambda c: c.update(image_token_id=c["image_token_id"] + 1), "image_token_id"),
        ("processor_config.json", lambda c: c["image_processor"].update(image_mean=[0.5] * 3), "image processor"),
        ("config.json", lambda c: c.update(model_type="qwen2_audio"), "'qwen2_audio' is not supported"),
        (
            "generation_config.json",
            lambda g: g.update(eos_token_id=[g["eos_token_id"], 7]),
            r"end its answers at \[7\]",
        ),
    ],
)
def test_models_that_differ_are_refused(models, tmp_path, file, change, says):
    with pytest.raises(ValueError, match=says):
        check_models(str(models[0]), changed(models, tmp_path, file, change))


def test_other_chat_template_is_refused(models, tmp_path):
    copy = tmp_path / "changed"
    shutil.copytree(models[1], copy)
    (copy / "chat_template.jinja").write_text("{{ messages[0]['content'] }}")
    with pytest.raises(ValueError, match="chat template"):
        check_models(str(models[0]), str(copy))


def test_tensor_parallelism_that_divides_the_students_heads(models):
    check_student_heads(str(models[0]), 2)
    with pytest.raises(ValueError, match="tensor_model_parallel_size=3: must divide the student's 4 attention heads"):
        check_student_heads(str(models[0]), 3)
