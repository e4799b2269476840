"""The whole evaluation: eight data files, a vLLM server of the student, another of the judge, the toolkit."""

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.evaluation.data_files import write_all
from tests.serving.servers import QUICK, SMALL, both_servers, make_models
from tests.stack import ROOT, run
from verl_vaopd.evaluation.benchmarks import BENCHMARKS
from verl_vaopd.serving import EvaluationError
from verl_vaopd.serving.server import SERVED_NAME, free_port
from verl_vaopd.serving.toolkit_process import toolkit_python

pytestmark = [pytest.mark.heavy, pytest.mark.gigabytes(6.5)]


def evaluate_command(checkpoint: Path, output: Path, *arguments: str) -> list[str]:
    command = [sys.executable, "-m", "verl_vaopd.cli", "evaluate", str(checkpoint), "--output", str(output)]
    command += ["--calibration", str(output.parent / "not-calibrated.json")]
    return [*command, "--passes", "2", "--limit", "8", "--max-tokens", "32", "--any-data-file", *arguments]


def answers(output: Path) -> dict[str, list[str]]:
    """File -> its whole lines, of every pass."""
    return {str(path): path.read_text().splitlines() for path in sorted((output / "passes").rglob("*.jsonl"))}


def kill_after(count: int, command: list[str], output: Path, environment: dict) -> None:
    """Start an evaluation and kill it, with no chance to tidy up, once it has so many answers."""
    process = subprocess.Popen(command, cwd=ROOT, env=environment)
    deadline = time.monotonic() + 900
    while sum(map(len, answers(output).values())) < count:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.wait()
    _, alive = psutil.wait_procs(children, timeout=60)
    assert not alive  # what it had started ended with it


@contextmanager
def small_disk(folder: Path):
    """The folder as a file system of 44 kB; None where this user may not mount one."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=44k", "tmpfs", folder]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        yield None
        return
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """One evaluation in one go by a server of its own; one killed among its answers and started again; the failures."""
    try:
        toolkit_python()
    except EvaluationError as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("evaluation")
    student, judge = make_models(folder / "models")
    data = folder / "data"
    write_all(data)
    environment = {**os.environ, **QUICK, "LMUData": str(data), "HF_HUB_OFFLINE": "1"}
    environment["VAOPD_JUDGE_API_KEY"] = "a-key-to-be-kept"
    found = {"folder": folder, "whole": folder / "whole", "killed": folder / "killed"}
    with both_servers(student, judge, folder) as (serving, judging):
        judged = ["--judge-base-url", judging.url, "--judge", SERVED_NAME, "--scorers", "toolkit"]
        given = ["--base-url", serving.url, "--served-model", SERVED_NAME]
        small = ["--workers", "4"]

        def evaluate(output, *arguments):
            return run(*evaluate_command(student, output, *arguments), timeout=1800, **environment)

        found["wrong model"] = evaluate(folder / "none", "--base-url", serving.url, *judged)
        dead = ["--judge-base-url", f"http://127.0.0.1:{free_port()}/v1", "--judge", SERVED_NAME]
        found["dead judge"] = evaluate(folder / "none", *given, *dead)
        kill_after(
            20, evaluate_command(student, found["killed"], *given, *judged, *small), found["killed"], environment
        )
        found["before"] = answers(found["killed"])
        stored = found["calibration"] = folder / "calibration.json"
        calibrate = ["--calibrate", "--calibration", str(stored), "--scorers", "released"]
        with small_disk(folder / "full") as full, ThreadPoolExecutor() as pool:  # most of each is the toolkit's start
            runs = {
                "again": pool.submit(evaluate, found["killed"], *given, *judged, *small),
                "calibrate": pool.submit(evaluate, folder / "base", *given, *judged, *calibrate),
            }
            if full:
                runs["full disk"] = pool.submit(evaluate, full, *given, "--benchmarks", "OCRBench,AI2D,MMMU,MMStar")
            found |= {name: each.result() for name, each in runs.items()}
        serving.stop()
        found["run"] = evaluate(found["whole"], *judged, "--", *SMALL)
    return found


def results(folder: Path) -> dict:
    return json.loads((folder / "results.json").read_text())


def test_all_eight_have_a_score(evaluated):
    assert evaluated["run"].returncode == 0
    written = results(evaluated["whole"])
    assert set(written["benchmarks"]) == set(BENCHMARKS) and set(written["averages"]) == {"Math", "Visual"}
    scores = [record["score"] for record in written["benchmarks"].values()]
    assert sum(0 < score < 100 for score in scores) >= 3, scores
    table = (evaluated["whole"] / "table.txt").read_text()
    assert table in evaluated["run"].stdout and "avg@2" in table and "strict" in table and "fAcc" in table
    limited = {"MathVista": 3, "MathVerse": 5, "HallusionBench": 5, "AI2D": 4, "MMMU": 3, "MMStar": 4, "OCRBench": 3}
    for name, record in written["benchmarks"].items():
        assert record["counts"]["answers"] == 2 * limited.get(name, 8)
        assert record["counts"]["failed"] == record["counts"]["judge_failed"] == 0
        assert len(record["passes"]) == 2 and record["interval"][0] <= record["score"] <= record["interval"][1]


def test_passes_differ_by_their_seed(evaluated):
    lines = [json.loads(line) for line in (evaluated["whole"] / "questions.jsonl").read_text().splitlines()]
    by_seed = [[line["prediction"] for line in lines if line["seed"] == seed] for seed in (0, 1)]
    assert len(by_seed[0]) == len(by_seed[1]) == 35 and by_seed[0] != by_seed[1]


def test_killed_and_started_again_gives_the_same_table(evaluated):
    assert evaluated["again"].returncode == 0
    after = answers(evaluated["killed"])
    for path, lines in evaluated["before"].items():
        assert after[path][: len(lines)] == lines  # no finished question was asked again
        keys = [json.loads(line)["key"] for line in after[path]]
        assert len(keys) == len(set(keys))
    first, second = ((evaluated[name] / "table.txt").read_text() for name in ("whole", "killed"))
    assert first == second


def test_manifest_and_counts(evaluated):
    manifest = results(evaluated["whole"])["manifest"]
    assert manifest["toolkit"] == "ms-vlmeval 0.0.20" and len(manifest["checkpoint"]) == 64
    assert manifest["decoding"] == {"temperature": 1.0, "top_p": 1.0, "max_tokens": 32}
    assert manifest["seeds"] == [0, 1] and manifest["judge"]["model"] == SERVED_NAME
    assert manifest["questions"] == results(evaluated["killed"])["manifest"]["questions"]
    counts = [record["counts"] for record in results(evaluated["whole"])["benchmarks"].values()]
    assert sum(each["truncated"] for each in counts) > 0 and sum(each["unparsed"] for each in counts) > 0


def test_judge_answers_are_cached_and_its_key_is_kept(evaluated):
    keys = [json.loads(line)["key"] for line in (evaluated["killed"] / "judge.jsonl").read_text().splitlines()]
    assert keys and len(keys) == len(set(keys))
    for path in (*evaluated["whole"].rglob("*"), *evaluated["killed"].rglob("*")):
        assert path.is_dir() or b"a-key-to-be-kept" not in path.read_bytes()


def test_wrong_model_name(evaluated):
    assert evaluated["wrong model"].returncode == 1
    assert f"but {SERVED_NAME}: correct --served-model" in evaluated["wrong model"].stdout


def test_dead_judge(evaluated):
    assert evaluated["dead judge"].returncode == 1
    assert "no judge answers at" in evaluated["dead judge"].stdout


def test_full_disk(evaluated):
    if "full disk" not in evaluated:
        pytest.skip("needs the right to mount a tmpfs")
    assert evaluated["full disk"].returncode == 1
    assert "is full" in evaluated["full disk"].stdout


def test_calibration_names_the_nearest_variant(evaluated):
    assert evaluated["calibrate"].returncode == 0
    stored = json.loads(evaluated["calibration"].read_text())
    wemath, mathverse = stored["candidates"]["WeMath"], stored["candidates"]["MathVerse"]
    assert set(wemath) == {"strict", "loose", "strict + loose"}
    assert len(mathverse) == 2 * 6  # all and five versions, in two wordings
    for wording in ("plain", "cot"):
        written = (evaluated["folder"] / "base" / wording / "prompts/MathVerse.jsonl").read_text()
        asked = [json.loads(line)["content"][-1]["text"] for line in written.splitlines()]
        assert len(asked) == 5 and all(("Think first" in text) == (wording == "cot") for text in asked)
    chosen = " + ".join(stored["variants"]["wemath"])
    assert all(abs(wemath[chosen] - 36.8) <= abs(value - 36.8) for value in wemath.values())
    assert f"* {chosen}" in evaluated["calibrate"].stdout


def test_compare_with_itself(evaluated):
    compared = run(sys.executable, "-m", "verl_vaopd.cli", "compare", evaluated["whole"], evaluated["killed"])
    assert compared.returncode == 0
    for line in compared.stdout.splitlines()[2:-1]:
        assert "+0.00" in line and "*" not in line
