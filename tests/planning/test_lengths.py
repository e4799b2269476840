"""Lengths of answers: log-normal as asked for, or drawn from those measured."""

import json

import numpy as np
import pytest

from verl_vaopd.planning.lengths import LogNormal, Measured, measured


def drawn(draw, prompts=20_000, rollouts=2):
    return draw(np.random.default_rng(0), prompts, rollouts)


def test_a_log_normal_has_its_mean_and_its_tail():
    draw = LogNormal(mean=100, p99=300, limit=10_000)
    # ln 3 = 2.326 s - s^2 / 2: s = 2.326 - sqrt(5.412 - 2.197)
    assert draw.sigma == pytest.approx(0.5333, abs=1e-3)
    lengths = drawn(draw)
    assert lengths.shape == (20_000, 2) and lengths.dtype == np.int64
    assert lengths.mean() == pytest.approx(100, rel=0.02)
    assert np.percentile(lengths, 99) == pytest.approx(300, rel=0.05)
    assert drawn(LogNormal(100, 300, limit=200)).max() == 200


def test_the_longest_is_one_of_many_or_the_limit():
    # s = 0.5333: 100 exp(4 x 0.5333 - 0.1422) = 100 exp(1.991)
    assert LogNormal(mean=100, p99=300, limit=10_000).longest == pytest.approx(732, rel=0.01)
    assert LogNormal(mean=100, p99=300, limit=500).longest == 500
    assert LogNormal(mean=100, p99=100, limit=500).longest == 100


def test_siblings_are_as_alike_as_asked():
    def alike(share):
        logs = np.log(drawn(LogNormal(500, 1500, 10_000, share)))
        return np.corrcoef(logs.T)[0, 1]

    assert alike(0.0) == pytest.approx(0, abs=0.03)
    assert alike(0.5) == pytest.approx(0.5, abs=0.03)
    assert alike(1.0) == pytest.approx(1)


@pytest.mark.parametrize(
    ("mean", "p99", "says"),
    [(100, 90, "between 1 and --response-p99"), (0.5, 10, "between 1"), (100, 1600, "at most 1497")],
)
def test_lengths_that_no_log_normal_has_are_refused(mean, p99, says):
    with pytest.raises(ValueError, match=says):  # 100 exp(2.326^2 / 2) = 1497
        LogNormal(mean, p99, 4096)


def test_measured_lengths_come_from_a_file(tmp_path):
    path = tmp_path / "lengths.json"
    path.write_text(json.dumps([3, 4, 5]))
    alone = measured(path)
    assert alone == Measured(((3,), (4,), (5,)), "lengths.json") and alone.mean == 4
    assert set(drawn(alone, 50).flatten()) == {3, 4, 5}
    path.write_text(json.dumps([[1, 2], [30, 40]]))
    together = drawn(measured(path), 50)
    assert set(together.flatten()) == {1, 2, 30, 40}
    assert ((together < 10).all(1) | (together > 10).all(1)).all()  # siblings are of one prompt


def test_measured_lengths_come_from_a_run(tmp_path):
    (tmp_path / "rollouts").mkdir()
    rows = [
        {"id": name, "question": "What?", "token_ids": [7] * count} for name, count in (("a", 2), ("b", 9), ("a", 3))
    ]
    (tmp_path / "rollouts" / "step_1.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert measured(tmp_path).groups == ((2, 3), (9,))


@pytest.mark.parametrize("content", ["[]", "{}", "[1, 0]", "[1.5]", "[[]]", "[true]", "no json"])
def test_what_are_no_lengths_is_refused(tmp_path, content):
    path = tmp_path / "lengths.json"
    path.write_text(content)
    with pytest.raises(ValueError, match="--lengths .*lengths.json"):
        measured(path)
    with pytest.raises(ValueError, match=r"no rollouts/step_\*.jsonl"):
        measured(tmp_path)


def test_measured_lengths_above_the_limit_are_cut_and_said(tmp_path):
    path = tmp_path / "lengths.json"
    path.write_text(json.dumps([[50, 10**30], [60]]))
    cut = measured(path, 4096)
    assert cut.groups == ((50, 4096), (60,)) and cut.longest == 4096
    assert str(cut) == "3 measured (lengths.json, 1 cut at 4,096), mean 1402, longest 4,096"  # 4206 / 3
    path.write_text("[50, 60]")
    assert str(measured(path, 4096)) == "2 measured (lengths.json), mean 55, longest 60"


@pytest.mark.parametrize("row", [{"id": "a", "question": "What?"}, {"token_ids": [7]}, ["a"]])
def test_rows_that_no_run_has_logged_are_refused(tmp_path, row):
    (tmp_path / "rollouts").mkdir()
    good = {"id": "a", "question": "What?", "token_ids": [7]}
    (tmp_path / "rollouts" / "step_1.jsonl").write_text(f"{json.dumps(good)}\n{json.dumps(row)}\n")
    with pytest.raises(ValueError, match=r"--lengths .*step_1.jsonl, line 2: must be a logged rollout"):
        measured(tmp_path)
