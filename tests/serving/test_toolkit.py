"""The real toolkit, in its own environment, on files in its format."""

import json

import pytest

from tests.evaluation.data_files import choice, write
from verl_vaopd.serving import EvaluationError
from verl_vaopd.serving.toolkit_process import Toolkit, toolkit_python

WORDS = {"A": "None", "B": "NA", "C": "null", "D": "nan"}


def test_options_that_read_like_a_gap_are_shown_and_scored(tmp_path, monkeypatch):
    try:
        toolkit_python()
    except EvaluationError as error:
        pytest.skip(str(error))
    (data := tmp_path / "data").mkdir()
    monkeypatch.setenv("LMUData", str(data))
    write(data, "MMStar", [choice(0, l2_category="x") | WORDS, choice(1, l2_category="x") | {"D": ""}])
    with Toolkit(tmp_path / "log") as toolkit:
        questions = tmp_path / "questions.jsonl"
        wanted = {"dataset": "MMStar", "output": str(questions), "split": None, "limit": None, "prompt": None}
        toolkit.call("prepare", any_file=True, **wanted)
        first, second = (json.loads(line) for line in questions.read_text().split("\n")[:2])
        shown = first["content"][-1]["text"]
        for letter, text in WORDS.items():
            assert f"{letter}. {text}\n" in shown
        assert "D. " not in second["content"][-1]["text"]
        scored = toolkit.call(
            "score", dataset="MMStar", predictions=["None", "B"], judge_url=None, workers=1, folder=str(tmp_path)
        )
    assert [row["correct"] for row in scored["verdicts"]] == [True, False]
