"""What is checked before anything is started, and what a second run with the same folder may do."""

from pathlib import Path

import pytest

from verl_vaopd.evaluation.__main__ import default_output, main
from verl_vaopd.evaluation.benchmarks import BENCHMARKS
from verl_vaopd.evaluation.calibration import nearest
from verl_vaopd.evaluation.manifest import checkpoint_hash, continue_run, write_json
from verl_vaopd.evaluation.variants import Variants, read_variants
from verl_vaopd.serving import EvaluationError

NO_WEIGHTS = (2).to_bytes(8, "little") + b"{}"  # a whole safetensors file
NOWHERE = "http://127.0.0.1:1/v1"  # no server answers at port 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--benchmarks", "AI3D"], "no benchmark AI3D: choose from WeMath"),
        ([], "MathVista cannot be scored without a judge"),
        (["--scorers", "toolkit"], "WeMath, MathVista, MathVerse cannot be scored without a judge"),
        (["--judge", "gpt-4o"], "--judge-base-url and --judge go together"),
        (["--benchmarks", "AI2D", "--served-model", "x"], "--served-model belongs to --base-url"),
        (["--benchmarks", "AI2D", "--base-url", NOWHERE, "--", "--seed", "1"], "not with --base-url"),
        (["--judge", "gpt-4o", "--judge-base-url", NOWHERE], f"no judge answers at {NOWHERE}"),
        (["--benchmarks", "AI2D", "--base-url", NOWHERE], f"no server answers at {NOWHERE}"),
    ],
)
def test_bad_usage_ends_at_once(tmp_path, capsys, arguments, words):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(NO_WEIGHTS)
    assert main([str(tmp_path), "--output", str(tmp_path / "out"), *arguments]) == 1
    assert words in capsys.readouterr().err


def test_output_is_named_by_the_run_or_the_hub_name(tmp_path):
    (tmp_path / "run" / "student").mkdir(parents=True)
    assert default_output(str(tmp_path / "run" / "student")) == Path("outputs/evaluation/run-student")
    assert default_output("Qwen/Qwen3-VL-2B-Instruct").name == "Qwen-Qwen3-VL-2B-Instruct"


def test_no_such_checkpoint(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    output = ["--output", str(tmp_path / "out"), "--benchmarks", "AI2D"]
    assert main([str(tmp_path / "missing"), *output]) == 1
    assert "missing is no folder here" in capsys.readouterr().err
    assert main([str(tmp_path), *output]) == 1
    assert "has no config.json" in capsys.readouterr().err


def test_a_folder_is_continued_only_with_the_same_answers(tmp_path):
    run = {"checkpoint": "c", "decoding": {"temperature": 1.0}, "questions": {"AI2D": {"prompts_sha256": "q"}}}
    continue_run(tmp_path, run)
    whole = (tmp_path / "run.json").read_bytes()
    for damaged, says in ((b"\0" * 9, "run.json is no JSON"), (b"[]", "run.json is not what verl-vaopd evaluate")):
        (tmp_path / "run.json").write_bytes(damaged)
        with pytest.raises(EvaluationError, match=says):
            continue_run(tmp_path, run)
    (tmp_path / "run.json").write_bytes(whole)
    more = continue_run(tmp_path, {**run, "questions": {"MMStar": {"prompts_sha256": "m"}}})
    assert set(more["questions"]) == {"AI2D", "MMStar"}
    for changed, words in (
        ({"checkpoint": "d"}, "its checkpoint is c, not d"),
        ({"decoding": {"temperature": 0.5}}, "its decoding"),
        ({"questions": {"AI2D": {"prompts_sha256": "r"}}}, "its questions of AI2D"),
    ):
        with pytest.raises(EvaluationError, match=words):
            continue_run(tmp_path, {**run, **changed})


def test_checkpoint_hash_sees_every_file(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    first = checkpoint_hash(tmp_path)
    assert first == checkpoint_hash(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(NO_WEIGHTS + b"1")
    assert checkpoint_hash(tmp_path) != first


def test_hallusion_index():
    row = {"index": "VD_figure_1_0_2_1", "l2-category": "figure"}
    assert BENCHMARKS["HallusionBench"].fields(row, []) == {
        "group": "figure_0",
        "category": "figure",
        "set": "0",
        "figure": "2",
        "question": "1",
    }


def test_calibration_is_kept_and_shown(tmp_path):
    assert "not calibrated" in read_variants(tmp_path / "none.json").describe()
    chosen = Variants(("strict",), ("Vision Only",), "cot", calibrated="base")
    write_json(tmp_path / "calibration.json", {"variants": chosen.record()})
    kept = read_variants(tmp_path / "calibration.json")
    assert kept == chosen and kept.reported(BENCHMARKS["WeMath"]) == ("strict",)
    said = "WeMath: strict; MathVerse: Vision Only, chain-of-thought wording; calibrated on base"
    assert kept.describe() == f"{said}; answers: first committed; scorers: released"
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(EvaluationError, match="no calibration"):
        read_variants(tmp_path / "other.json")


def test_what_the_scorers_get_and_which_need_a_judge():
    text = r"The answer is: 4 cm. But \boxed{5} cannot be."
    assert Variants().graded(text) == "4 cm" and Variants(answer="whole").graded(text) == text
    released = {name for name, each in BENCHMARKS.items() if Variants().by_rule(each)}
    assert released == {"WeMath", "MathVerse", "AI2D", "OCRBench"}
    assert [name for name, each in BENCHMARKS.items() if Variants(scorers="toolkit").by_rule(each)] == ["OCRBench"]


def test_nearest_variant():
    assert nearest({"strict": 28.9, "loose": 44.0, "strict + loose": 36.5}, 36.8) == "strict + loose"
