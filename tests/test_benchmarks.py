"""The benchmarks at tiny sizes: every row is there and the methods agree. No test looks at a time."""

import pytest
import torch

from benchmarks import fused_loss, grading, measure, trainer_modes

pytestmark = pytest.mark.slow

TINY = "--vocab-size 512 --student-width 32 --teacher-width 64 --threads 1 --repeats 1 --device cpu --rows 16".split()


def table(page: str) -> list[list[str]]:
    """Cells of the table's rows, without heading."""
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines() if line[:1] == "|"][2:]


def test_every_method_of_the_fused_loss_has_a_row_and_the_losses_agree(monkeypatch, capsys, tmp_path):
    def in_this_process(module, case):
        return fused_loss.measure(fused_loss.Case(**case))

    monkeypatch.setattr(fused_loss, "run_in_fresh_process", in_this_process)
    monkeypatch.setattr(fused_loss, "find_spec", lambda package: None)  # others' packages may compile for minutes
    fused_loss.main([*TINY, "--save", str(tmp_path / "page.md")])
    page = capsys.readouterr().out
    assert (tmp_path / "page.md").read_text() == page
    rows = table(page)
    assert [row[:3] for row in rows] == [
        [dtype, "16", method.title] for dtype in ("fp32", "bf16") for method in fused_loss.METHODS.values()
    ]
    results = {(row[0], row[2]): row for row in rows}
    for dtype in ("fp32", "bf16"):
        losses = [results[dtype, fused_loss.METHODS[name].title][11] for name in ("fused", "plain", "held")]
        assert float(losses[0]) > 0.1
        assert [float(loss) for loss in losses] == pytest.approx([float(losses[0])] * 3, abs=2e-6)
        assert results[dtype, fused_loss.METHODS["gemms"].title][4] == "1.00"
        assert results[dtype, fused_loss.METHODS["trl"].title][3] == "not installed"


def test_a_method_runs_in_a_process_of_its_own(capsys):
    fused_loss.main([*TINY, "--dtypes", "bf16", "--methods", "fused"])
    ((dtype, rows, title, _, over_gemms, peak, *_, loss, _, _),) = table(capsys.readouterr().out)
    assert (dtype, rows, title, over_gemms) == ("bf16", "16", "fused, this project", "")
    assert float(peak) < 1 and 0.1 < float(loss) < 2


def test_what_does_not_fit_or_fails_is_a_row():
    sizes = dict(vocab_size=151_936, student_width=2048, teacher_width=4096, chunk_size=64, threads=1, repeats=1)
    case = fused_loss.Case("plain", "cpu", "fp32", rows=10**9, **sizes)
    assert "does not fit" in fused_loss.measure(case)["failed"]
    results = {
        "plain": {"failed": "does not fit"},
        "fused": dict(seconds=1.0, peak=2**30, work=2**29, loss=0.5, mean_kl=1.0),
    }
    rows = list(fused_loss.cells(results, case))
    assert rows[0][3] == "does not fit" and all(len(row) == len(fused_loss.HEADING) for row in rows)
    assert rows[1][3:] == ["1", None, "1.00", None, None, "0.50", None, None, "0.500000", None, None]


def test_peak_memory_is_what_was_held_at_most():
    with measure.PeakMemory() as peak:
        torch.ones(2**26)  # 256 MiB, freed at once
        torch.ones(2**25)
    assert 0.9 * 2**28 < peak.bytes < 1.2 * 2**28
    with measure.PeakMemory() as peak:
        pass
    assert peak.bytes < 2**24


def test_a_process_that_fails_says_why():
    assert "No module named benchmarks.none" in measure.run_in_fresh_process("benchmarks.none", {})["failed"]


def test_both_codes_grade_the_same_mix(monkeypatch, capsys, tmp_path):
    asked = []

    def in_this_process(module, case):
        asked.append(case)
        if case["code"] != str(grading.ROOT):
            return {"failed": "it has no verl_vaopd"}
        return grading.measure({**case, "hanging": False})

    monkeypatch.setattr(grading, "run_in_fresh_process", in_this_process)
    grading.main(["--answers", "60", "--against", str(tmp_path), "--save", str(tmp_path / "page.md")])
    this, other = table((tmp_path / "page.md").read_text())
    assert this[0] == "this" and float(this[1]) > 1 and 30 < float(this[3].rstrip("%")) < 80
    assert other[:2] == [tmp_path.name, "it has no verl_vaopd"]
    assert [case["hanging"] for case in asked] == [True, False]  # code without limits would not come back


def test_tokens_a_second_are_all_tokens_over_all_seconds():
    def step(seconds):
        """Of 300 tokens."""
        phases = {f"time/{name}": 0.1 for name in trainer_modes.PHASES}
        return {"time/step": seconds, "tokens_per_s": 300 / seconds, "response_length/mean": 10, **phases}

    found = trainer_modes.means([step(1), step(3)])
    # 600 tokens in 4 s; the mean of 300 and 100 a second would be 200
    assert (found["time/step"], found["tokens_per_s"]) == (2, 150)


def test_half_of_the_mix_is_right_and_every_kind_is_there():
    texts = " ".join(truth for _, truth in grading.mix(500))
    assert all(part in texts for part in ("000", r"\sqrt", "y", "A", "(0,", r"\sin", r"\ln(2)"))
    assert grading.mix(50) == grading.mix(50) != grading.mix(50, seed=1)
