"""Refusals, the check against the toolkit, the table, the comparison of two evaluations."""

import numpy as np
import pytest

from verl_vaopd.evaluation import compare
from verl_vaopd.evaluation.benchmarks import BENCHMARKS
from verl_vaopd.evaluation.manifest import write_json
from verl_vaopd.evaluation.results import (
    QUESTIONS,
    RESULTS,
    Counts,
    averages,
    check_arithmetic,
    scored,
    table,
    write_lines,
)
from verl_vaopd.serving import EvaluationError

AI2D = BENCHMARKS["AI2D"]


def of_ai2d(correct, **counts):
    correct = np.asarray(correct, dtype=bool)
    fields = [{"group": str(n)} for n in range(correct.shape[1])]
    return scored(AI2D, fields, correct, Counts(**{"answers": correct.size, **counts}), ())


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        (dict(answers=1000, failed=5), None),  # 0.5% is not above it
        (dict(answers=1000, failed=6), "6 of 1000 generations failed"),
        (dict(answers=1000, judge_failed=6), "judge did not answer 6"),
        (dict(answers=1000, judge_failed=5, truncated=900, unparsed=900), None),
        (dict(answers=1000, unread=1), "1 of 1000 answers need a judge"),
        (dict(answers=4, failed=1, reasons=["too long"]), "too long"),
    ],
)
def test_no_score_but_the_reason(counts, words):
    result = of_ai2d([[1, 0], [1, 1]], **counts)
    text = "\n".join(table({"AI2D": result}, "variants", 2))
    if words is None:
        assert result.total.value == 75 and "75.00" in text
    else:
        assert result.total is None and words in result.reason
        assert words in text and "75" not in text
        assert "score" not in result.record() and result.record()["counts"]["answers"] == counts["answers"]


def test_truncations_and_unparsed_answers_are_told():
    record = of_ai2d([[1, 0]], truncated=1, unparsed=1).record()
    assert (record["counts"]["truncated"], record["counts"]["unparsed"]) == (1, 1)


def test_the_toolkits_own_figure_must_agree():
    parts = of_ai2d([[1, 0], [1, 1]]).parts
    check_arithmetic(AI2D, parts, [{"accuracy": 50.0}, {"accuracy": 100.0}])
    check_arithmetic(AI2D, parts, [{}, {}])  # it gives none where an option was drawn at random
    with pytest.raises(EvaluationError, match="AI2D, accuracy: 100.0000 from single verdicts, 50.0000 by the"):
        check_arithmetic(AI2D, parts, [{"accuracy": 50.0}, {"accuracy": 50.0}])


def results_of(rates: dict[str, float]) -> dict:
    """Every benchmark with 20 questions in one pass, so many right."""
    found = {}
    for name, rate in rates.items():
        correct = np.arange(20) < round(20 * rate)
        fields = [
            {"group": str(n), "category": "c", "set": str(n), "figure": "0", "question": "0", "version": "Text Lite"}
            for n in range(20)
        ]
        if name == "WeMath":
            fields = [{"group": str(n // 2), "key": ("1steps_1", "1steps_multi")[n % 2]} for n in range(20)]
        benchmark = BENCHMARKS[name]
        found[name] = scored(benchmark, fields, correct[None], Counts(answers=20), benchmark.reported)
    return found


def test_averages_are_of_three_and_of_five():
    rates = dict(zip(BENCHMARKS, (0.2, 0.5, 0.8, 0.1, 0.2, 0.3, 0.4, 0.5), strict=True))
    found = averages(results_of(rates))
    assert found["Math"].value == pytest.approx(50) and found["Visual"].value == pytest.approx(30)
    del rates["MMMU"]
    assert set(averages(results_of(rates))) == {"Math"}
    lines = list(table(results_of(rates), "variants", 1))
    assert [line.split()[0] for line in lines[1:5]] == ["WeMath", "MathVista", "MathVerse", "Math"]


def write_evaluation(folder, correct, **manifest):
    correct = np.asarray(correct, dtype=bool)
    result = of_ai2d(correct)
    same = {"toolkit": "t", "decoding": {}, "passes": len(correct), "variants": {}, "judge": {}}
    folder.mkdir()
    questions = {"AI2D": {"prompts_sha256": "q"}}
    write_json(
        folder / RESULTS,
        {
            "manifest": {**same, "questions": questions, **manifest},
            "benchmarks": {"AI2D": {**result.record(), "reported": ["accuracy"]}},
        },
    )
    write_lines(
        folder / QUESTIONS,
        (
            {"benchmark": "AI2D", "seed": seed, "fields": {"group": str(n)}, "correct": bool(correct[seed, n])}
            for seed in range(len(correct))
            for n in range(correct.shape[1])
        ),
    )
    return folder


def test_compare_pairs_the_questions(tmp_path, capsys):
    """B is right wherever A is, and on 10 more of 100 questions: +10, and never below 0 though each alone has +-10."""
    first = write_evaluation(tmp_path / "a", [[n < 50 for n in range(100)]] * 2)
    second = write_evaluation(tmp_path / "b", [[n < 60 for n in range(100)]] * 2)
    assert compare.main([str(first), str(second)]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("AI2D"))
    _, difference, low, _, high, mark = line.split()
    # sqrt(0.1 * 0.9 / 100) = 3 points: about 4 to 16; unpaired it would be sqrt(2) * 5 = 7
    assert float(difference) == 10 and 3 < float(low) < 6 and 14 < float(high) < 18 and mark == "*"


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"decoding": {"temperature": 0}}, "decoding"),
        ({"questions": {"AI2D": {"prompts_sha256": "r"}}}, "questions of AI2D"),
    ],
)
def test_compare_refuses_what_has_no_pairs(tmp_path, capsys, other, words):
    first = write_evaluation(tmp_path / "a", [[1, 0]])
    second = write_evaluation(tmp_path / "b", [[1, 0]], **other)
    assert compare.main([str(first), str(second)]) == 1
    assert words in capsys.readouterr().err


def test_compare_names_what_is_missing(tmp_path, capsys):
    assert compare.main([str(tmp_path), str(tmp_path)]) == 1
    assert "no results.json" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("file", "data", "words"),
    [
        (RESULTS, b"\0" * 20, "results.json is no JSON"),
        (RESULTS, b"\xff", "results.json is no JSON"),
        (RESULTS, b"{}", "results.json is not what verl-vaopd evaluate writes"),
        (RESULTS, b"[]", "results.json is not what verl-vaopd evaluate writes"),
        (RESULTS, b'{"manifest": {}, "benchmarks": {}}', "results.json is not what verl-vaopd evaluate writes"),
        (QUESTIONS, None, "has no questions.jsonl"),
        (QUESTIONS, b"\0" * 20, "questions.jsonl, line 1, is damaged"),
        (QUESTIONS, b"[]\n", "questions.jsonl, line 1, holds no verdict"),
        (QUESTIONS, b"", "questions.jsonl holds 0 verdicts on AI2D, not the 4 of 2 passes"),
    ],
)
def test_compare_names_a_damaged_file(tmp_path, capsys, file, data, words):
    first = write_evaluation(tmp_path / "a", [[1, 0], [1, 1]])
    second = write_evaluation(tmp_path / "b", [[1, 0], [1, 1]])
    if data is None:
        (second / file).unlink()
    else:
        (second / file).write_bytes(data)
    assert compare.main([str(first), str(second)]) == 1
    said = capsys.readouterr().err
    assert words in said and str(second) in said and ("verl-vaopd evaluate" in said or "mend the line" in said)


@pytest.mark.parametrize("lines", [[0, 1, 2], [0, 1, 2, 0]])
def test_compare_takes_no_part_of_the_verdicts(tmp_path, capsys, lines):
    first = write_evaluation(tmp_path / "a", [[1, 0], [1, 1]])
    second = write_evaluation(tmp_path / "b", [[1, 0], [1, 1]])
    written = (second / QUESTIONS).read_bytes().splitlines(keepends=True)
    (second / QUESTIONS).write_bytes(b"".join(written[each] for each in lines))
    assert compare.main([str(first), str(second)]) == 1
    assert f"holds {len(lines)} verdicts on AI2D" in capsys.readouterr().err


def test_paper_base_figures():
    """Base Qwen3-VL-2B, Table 1: mathematical average 40.1, visual 64.3."""
    base = {kind: [each.base for each in BENCHMARKS.values() if each.average == kind] for kind in ("Math", "Visual")}
    assert round(np.mean(base["Math"]), 1) == 40.1 and round(np.mean(base["Visual"]), 1) == 64.3
