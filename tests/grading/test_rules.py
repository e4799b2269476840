"""Every line of answers.tsv is judged as docs/data.md says: wanted, answer, truth."""

from pathlib import Path

import pytest

from verl_vaopd.grading.grading import same_answer

LINES = [
    line.split("\t")
    for line in (Path(__file__).parent / "answers.tsv").read_text().split("\n")
    if line and not line.startswith("#")
]


@pytest.mark.parametrize("wanted, answer, truth", LINES)
def test_answer(wanted, answer, truth):
    assert str(same_answer(answer, truth)) == wanted


def test_the_table_holds_right_and_wrong_ones():
    wanted = [line[0] for line in LINES]
    assert len(LINES) > 600 and wanted.count("True") > 300 and wanted.count("False") > 150
    assert set(wanted) == {"True", "False"} and all(len(line) == 3 for line in LINES)


def test_what_is_too_long_to_be_read_is_compared_as_text():
    long = "1+" * 300 + "1"
    assert same_answer(long, long.replace("+", " + "))
    assert not same_answer(long, "301")
    assert same_answer("1+" * 100 + "1", "101")  # short enough
