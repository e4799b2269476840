"""The real toolkit, in its own environment, on files in its format."""

import json

import pytest

from tests.evaluation.data_files import choice, mathverse_rows, wemath_rows, write
from verl_vaopd.serving import EvaluationError
from verl_vaopd.serving.toolkit_process import Toolkit, toolkit_python

pytestmark = pytest.mark.slow

WORDS = {"A": "None", "B": "NA", "C": "null", "D": "nan"}


@pytest.fixture
def toolkit(tmp_path, monkeypatch):
    """Running, on files in ``tmp_path / "data"``."""
    try:
        toolkit_python()
    except EvaluationError as error:
        pytest.skip(str(error))
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("LMUData", str(tmp_path / "data"))
    with Toolkit(tmp_path / "log") as running:
        yield running


def prepared(toolkit, folder, dataset: str) -> list[dict]:
    """The questions of a data file that stands in ``folder / "data"``."""
    questions = folder / "questions.jsonl"
    wanted = {"dataset": dataset, "output": str(questions), "split": None, "limit": None, "prompt": None}
    toolkit.call("prepare", any_file=True, **wanted)
    return [json.loads(line) for line in questions.read_text().split("\n")[:-1]]


def scored_by_rule(toolkit, folder, dataset: str, predictions: list[str]) -> dict:
    rest = {"judge_url": None, "workers": 1, "folder": str(folder), "by_rule": True}
    return toolkit.call("score", dataset=dataset, predictions=predictions, **rest)


def test_options_that_read_like_a_gap_are_shown_and_scored(toolkit, tmp_path):
    write(tmp_path / "data", "MMStar", [choice(0, l2_category="x") | WORDS, choice(1, l2_category="x") | {"D": ""}])
    first, second = prepared(toolkit, tmp_path, "MMStar")
    shown = first["content"][-1]["text"]
    for letter, text in WORDS.items():
        assert f"{letter}. {text}\n" in shown
    assert "D. " not in second["content"][-1]["text"]
    scored = scored_by_rule(toolkit, tmp_path, "MMStar", ["None", "B"])
    assert [row["correct"] for row in scored["verdicts"]] == [True, False]


def test_by_rule_what_rules_cannot_read_is_wrong_and_needs_no_judge(toolkit, tmp_path):
    write(tmp_path / "data", "MathVerse_MINI", mathverse_rows())  # five versions of a question whose answer is 7
    assert len(prepared(toolkit, tmp_path, "MathVerse_MINI")) == 5
    scored = scored_by_rule(toolkit, tmp_path, "MathVerse_MINI", ["7", " 7 ", "7 cm", "seven", "8"])
    assert [row["correct"] for row in scored["verdicts"]] == [True, True, False, False, False]
    assert scored["official"]["Text Dominant"] == 100.0 and scored["official"]["Vision Only"] == 0.0
    write(tmp_path / "data", "WeMath", wemath_rows())  # of the ten answers all are A, but each fourth, which is B
    assert len(prepared(toolkit, tmp_path, "WeMath")) == 10
    scored = scored_by_rule(toolkit, tmp_path, "WeMath", ["A", "Answer: A", "", "B. of it", *["A"] * 5, "7"])
    right = [True, True, False, True, True, True, True, False, True, False]
    assert [row["correct"] for row in scored["verdicts"]] == right and set(scored["official"]) == {"strict", "loose"}
    assert not any(row["correct"] for row in scored_by_rule(toolkit, tmp_path, "WeMath", ["7"] * 10)["verdicts"])
    write(tmp_path / "data", "AI2D_TEST", [choice(0), choice(1)])
    prepared(toolkit, tmp_path, "AI2D_TEST")
    verdicts = scored_by_rule(toolkit, tmp_path, "AI2D_TEST", ["A", "zzz"])["verdicts"]
    assert [row["correct"] for row in verdicts] == [True, False] and not any(row["unread"] for row in verdicts)
