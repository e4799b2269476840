"""A folder of answers: resumed, refused, read back; checked against the run that wants it."""

import json

import pyarrow.parquet as pq
import pytest

from tests.answers.written import write_answers
from tests.stack import mixed_rows
from verl_vaopd.answers.store import AnswerWriter, StoredAnswers, read_manifest
from verl_vaopd.checks.answers import check_answers as checked_answers
from verl_vaopd.methods import method_of
from verl_vaopd.settings.compose import compose, instantiate
from verl_vaopd.tiny.processor import make_processor

SETTINGS = {"teacher": "t", "samples": 2}


@pytest.fixture
def data(tmp_path):
    return mixed_rows(tmp_path / "data.parquet", 12)


@pytest.fixture
def written(tmp_path, data):
    return write_answers(tmp_path / "answers", data, make_processor().tokenizer)


def test_every_answer_is_found_by_its_row_and_sample(tmp_path, written):
    answers = StoredAnswers(tmp_path / "answers")
    assert len(written) == 24 and len(list((tmp_path / "answers").glob("part-*"))) == 3
    for wanted in reversed(written):
        got = answers.of(wanted["id"], wanted["sample"])
        assert got["token_ids"] == wanted["token_ids"] and got["text"] == wanted["text"]
    assert [row["id"] for row in answers.rows()] == [row["id"] for row in written]
    with pytest.raises(ValueError, match="'nobody' has no stored answer 0"):
        answers.of("nobody", 0)


def test_manifest_counts(tmp_path, written):
    manifest = read_manifest(tmp_path / "answers")
    lengths = [len(row["token_ids"]) for row in written]
    assert (manifest["prompts"], manifest["answers"], manifest["accuracy"]) == (12, 24, 0.5)
    assert manifest["tokens_max"] == max(lengths)
    assert manifest["tokens_mean"] == pytest.approx(sum(lengths) / 24)


def test_a_stopped_writer_is_followed_by_one_that_goes_on(tmp_path):
    first = AnswerWriter(tmp_path / "a", SETTINGS)
    first.write(1, [])
    with pytest.raises(ValueError, match="is not complete.*verl-vaopd answers"):
        StoredAnswers(tmp_path / "a")
    second = AnswerWriter(tmp_path / "a", SETTINGS)
    assert second.has(1) and not second.has(0)
    with pytest.raises(ValueError, match="samples 2, now 4"):
        AnswerWriter(tmp_path / "a", {**SETTINGS, "samples": 4})
    with pytest.raises(ValueError, match="holds no answers: `verl-vaopd answers`"):
        StoredAnswers(tmp_path / "nothing")


def config(tmp_path, data, *overrides):
    paths = ["actor_rollout_ref.model.path=s", "vaopd.teacher.path=t", f"data.train_files={data}", "data.val_files=v"]
    own = ["vaopd.method=offpolicy_kd", f"vaopd.answers={tmp_path / 'answers'}", "actor_rollout_ref.rollout.n=2"]
    return compose("tiny_cpu", [*paths, *own, *overrides])


def check_answers(config) -> None:
    checked_answers(config, method_of(instantiate(config)))


def test_answers_of_the_run_pass(tmp_path, data, written):
    check_answers(config(tmp_path, data))


def test_answers_of_another_run_are_refused(tmp_path, data, written):
    with pytest.raises(ValueError, match="holds 2 answers a prompt, rollout.n=4"):
        check_answers(config(tmp_path, data, "actor_rollout_ref.rollout.n=4"))
    with pytest.raises(ValueError, match="data.max_response_length is 3"):
        check_answers(config(tmp_path, data, "data.max_response_length=3"))
    sft = ["vaopd.method=cot_sft", "data.train_batch_size=6"]  # 12 of the 24 answers are right
    check_answers(config(tmp_path, data, *sft))
    with pytest.raises(ValueError, match="holds 12 right answers, and cot_sft takes 14 a step"):
        check_answers(config(tmp_path, data, *sft, "data.train_batch_size=7"))
    table = pq.read_table(data).to_pylist()
    table[7]["extra_info"]["id"] = "new"
    import pyarrow as pa

    pq.write_table(pa.Table.from_pylist(table), tmp_path / "other.parquet")
    with pytest.raises(ValueError, match="no answer to row 7 of .*other.parquet .*'new'"):
        check_answers(config(tmp_path, tmp_path / "other.parquet"))


def test_manifest_is_json_with_the_settings(tmp_path, written):
    assert json.loads((tmp_path / "answers/manifest.json").read_text())["settings"]["teacher"] == "by hand"
