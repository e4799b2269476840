"""The whole stack on CPU: Ray, TransferQueue, vLLM, FSDP, the console script and the recipe.

Each start of the stack takes minutes, so each proves much.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.stack import ROOT, TINY, assert_answers_alike, mixed_rows, one_question, records, run, tiny_folder
from tests.trackers.wandb_file import rows_of
from tests.watching import PLANTED, files_that_hold, is_loopback, processes_seen

pytestmark = pytest.mark.stack


def train_command(output: Path, student: Path, teacher: Path, data: Path, *overrides) -> list[str]:
    return [
        sys.executable,
        "-m",
        "verl_vaopd.cli",
        "train",
        "--config-name",
        "tiny_cpu",
        f"actor_rollout_ref.model.path={student}",
        f"vaopd.teacher.path={teacher}",
        f"data.train_files={data}",
        f"data.val_files={data}",
        f"vaopd.output_dir={output}",
        *overrides,
    ]


def interrupt_after(
    step: int, command: list[str], output: Path, log: Path, env: dict, look, signum: int = signal.SIGINT
) -> tuple[int, object]:
    """Start a run, look at it (``look(pid)``) at its first step, press Ctrl-C (``signum``) once it has shown ``step``.

    Returns the exit status, for which it has a minute, and what ``look`` returned.
    """
    with open(log, "wb") as written:
        process = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, **env}, stdout=written, stderr=subprocess.STDOUT
        )
    progress, deadline = output / "progress.log", time.monotonic() + 900

    def wait_for(number):
        while f"step {number}/" not in (progress.read_text() if progress.exists() else ""):
            late = process.poll() is not None or time.monotonic() > deadline
            assert not late, f"ended or hung before step {number}: {log.read_text()[-6000:]}"
            time.sleep(0.5)

    wait_for(1)
    seen = look(process.pid)
    wait_for(step)
    process.send_signal(signum)
    return process.wait(timeout=60), seen


def stack_processes() -> set[int]:
    """Ray, vLLM and training processes of this machine, but for another's: of a supervised run, of other tests."""
    words = ("raylet", "gcs_server", "ray::", "VLLM", "EngineCore", "verl_vaopd.launch.main")
    found = set()
    for process in psutil.process_iter(["cmdline", "name"]):
        text = " ".join(process.info["cmdline"] or []) + " " + (process.info["name"] or "")
        if any(word in text for word in words) and not of_others(process):
            found.add(process.pid)
    return found


def of_others(process: psutil.Process) -> bool:
    own = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    with contextlib.suppress(psutil.Error):
        # Of a test that runs beside this one, its parents ended or not.
        test = process.environ().get("PYTEST_CURRENT_TEST", "")
        if test and test.partition("::")[0] != os.environ["PYTEST_CURRENT_TEST"].partition("::")[0]:
            return True
        parents = [parent for parent in process.parents() if parent.pid not in own]
        commands = [" ".join(parent.cmdline()) for parent in parents]
        return any(re.search(r"verl-vaopd train|verl_vaopd.cli train|-m pytest", command) for command in commands)
    return True  # it has ended, or is another user's


@pytest.fixture(scope="module")
def self_distilled(tmp_path_factory):
    """A student distilled from itself: Standard OPD, teacher in a pool of its own; ended by Ctrl-C.

    Training rows are of one length: one question, one image size, answers of the full length; held-out ones are mixed.
    """
    from verl_vaopd.tiny.models import random_models

    folder = tmp_path_factory.mktemp("self")
    student, _ = random_models(folder / "models")
    data = one_question(folder / "data.parquet", 12)
    settings = [
        "vaopd.method=opd",
        f"data.val_files={mixed_rows(folder / 'mixed.parquet', 12)}",
        "actor_rollout_ref.rollout.ignore_eos=true",
        "vaopd.teacher.placement=separate",
        "vaopd.teacher.n_gpus_per_node=1",
        "data.train_batch_size=6",
        "actor_rollout_ref.rollout.n=3",
        "data.val_max_samples=6",
        "actor_rollout_ref.rollout.val_kwargs={n: 2, temperature: 1.0, do_sample: true}",  # avg@2
        "actor_rollout_ref.rollout.engine_kwargs.vllm.limit_mm_per_prompt.image=2",
        "vaopd.max_drift=1e-5",
        "actor_rollout_ref.actor.optim.lr=1e-7",
        "trainer.save_freq=1",
        "trainer.test_freq=2",
        "trainer.logger=[tensorboard,wandb]",
    ]
    before = stack_processes()
    output = folder / "run"
    command = train_command(output, student, student, data, *settings, "trainer.total_training_steps=1000")
    log = folder / "stdout.log"
    status, seen = interrupt_after(2, command, output, log, PLANTED | {"WANDB_MODE": "offline"}, processes_seen)
    left = stack_processes() - before
    return {"output": output, "log": log, "status": status, "left": left, "logged": records(output), "seen": seen}


def test_self_distillation_has_no_loss(self_distilled):
    """Teacher == student: KL below 1e-6 at step 1, through the whole stack."""
    step_1 = self_distilled["logged"][1]
    assert step_1["step"] == 1
    assert abs(step_1["loss"]) < 1e-6 and abs(step_1["kl/mean"]) < 1e-6  # either sign: what is left is rounding


def test_vllm_and_trainer_agree(self_distilled):
    for record in self_distilled["logged"][1:]:
        assert record["drift/mean"] < 1e-5


def test_interrupt_leaves_no_process(self_distilled):
    assert self_distilled["status"] != 0
    assert not self_distilled["left"]


def test_interrupt_leaves_no_shared_memory(self_distilled):
    """Though Ray kills vLLM's processes: what they share has the run's name, and goes with the run."""
    held = set().union(*(each.segments for each in self_distilled["seen"]))
    assert any(re.match(r"va[0-9a-f]{4}_", name) for name in held)
    assert not held & set(os.listdir("/dev/shm"))


def test_every_socket_is_on_loopback_or_private(self_distilled):
    """Ray, TransferQueue, vLLM, the ranks' stores, gloo: of all processes, at step 1."""
    seen = self_distilled["seen"]
    listening = {name for each in seen for name in [each.name] if each.listening}
    for expected in ("raylet", "gcs_server", "TransferQu", "vLLMHttp", "VLLM::Worker", "Teacher", "WorkerDict"):
        assert any(expected in name for name in listening), (expected, listening)
    elsewhere = [(each.name, address) for each in seen for address in each.listening if not is_loopback(address)]
    assert not elsewhere
    assert not [(each.name, path) for each in seen for path in each.open_to_others]


def test_ray_answers_nobody_without_the_token(self_distilled):
    assert self_distilled["seen"].without_token == "UNAUTHENTICATED"
    assert self_distilled["seen"].with_token != "UNAUTHENTICATED"
    daemons = [each for each in self_distilled["seen"] if each.name in ("raylet", "gcs_server")]
    assert [each.ray_auth_mode for each in daemons] == ["token"] * 2
    assert self_distilled["seen"].token_mode == 0o600


def test_no_secret_is_written_or_shown(self_distilled):
    """Keys of the environment and Ray's token: in no file of the run and of Ray's session, in no command line."""
    seen = self_distilled["seen"]
    folders = [self_distilled["log"], self_distilled["output"], seen.session]
    assert files_that_hold(b"step 1/", folders), "the search finds what is there"
    for secret in [*PLANTED.values(), seen.token]:
        assert not files_that_hold(secret.encode(), folders)
        assert not [each.name for each in seen if secret in each.command_line]


def test_trackers_hold_what_metrics_jsonl_has(self_distilled):
    output, logged = self_distilled["output"], self_distilled["logged"]
    events = EventAccumulator(str(output / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    (folder,) = (output / "wandb").glob("offline-run-*")
    rows = [row for row in rows_of(folder) if "time/wall" in row]
    for step, (record, row) in enumerate(zip(logged[:2], rows, strict=False)):  # the last may be cut off
        numbers = {name: value for name, value in record.items() if isinstance(value, int | float) and name != "step"}
        numbers |= {f"alarms/{name}": 1 for name in record.get("alarms", ())}
        assert row == pytest.approx(numbers | {"step": step})
        shown = {name: {event.step: event.value for event in events.Scalars(name)}[step] for name in numbers}
        assert shown == pytest.approx(numbers, rel=1e-6)
    assert len(list((output / "heat_maps" / "step_0").iterdir())) == 3


def test_held_out_rollouts_are_logged_with_their_images(self_distilled):
    output = self_distilled["output"]
    first, second = (
        [json.loads(line) for line in (output / "rollouts" / f"validation_{step}.jsonl").read_text().splitlines()]
        for step in (0, 2)
    )
    assert [row["id"] for row in first] == [row["id"] for row in second] == sorted(row["id"] for row in first)
    assert len(first) == 6 * 2  # avg@2
    for row in first:
        assert len(row["va"]) == len(row["tokens"]) and row["accuracy"] == 0.0
        assert (row["image"] is None) == (not any(row["va"]))  # rows of text only have neither
    images = {output / row["image"] for row in first if row["image"]}
    assert images and all(image.stat().st_size > 100 for image in images)


def test_rollouts_are_logged_token_by_token(self_distilled):
    path = self_distilled["output"] / "rollouts" / "step_1.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(rows) == 2 * 3  # two prompts, three siblings
    assert {len(row["token_ids"]) for row in rows} == {64} and len({row["question"] for row in rows}) == 1
    for row in rows:
        assert len(row["va"]) == len(row["coefficient"]) == len(row["tokens"]) == len(row["token_ids"])
        # Standard OPD: six prompts, three rollouts each, every token of a rollout the same.
        assert row["coefficient"] == pytest.approx([1 / (6 * 3 * len(row["va"]))] * len(row["va"]), rel=1e-5)


RECIPE_STEPS = 24


@pytest.fixture(scope="module", params=["sync", pytest.param("colocate_async", marks=pytest.mark.long)])
def recipe(request, tmp_path_factory):
    """``bash recipes/vaopd_tiny_cpu.sh`` as the README gives it, to a third; models and data are made if missing.

    Under ``--long`` once more with partial rollouts.

    As in a Slurm job: nothing but PATH, a TMPDIR under which no socket of Ray's would fit; a folder with an odd name.
    (test_cluster.py stops it and goes on.)
    """
    folder = tmp_path_factory.mktemp("recipe")
    temporary = folder / "t".rjust(60 - len(str(folder)) - 1, "t")
    temporary.mkdir()
    variables = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(folder),
        "TMPDIR": str(temporary),
        "VAOPD_VENV": sys.prefix,
        "VAOPD_TINY_DIR": str(tiny_folder()),
        "RUN_DIR": str(folder / "high_weight=0.4, {run}"),
    }
    assert len(str(temporary)) >= 60
    bare = ["env", "-i", *(f"{name}={value}" for name, value in variables.items())]
    before = stack_processes()
    settings = [f"trainer.total_training_steps={RECIPE_STEPS}"]
    settings += [f"trainer.v1.trainer_mode={request.param}"] * (request.param != "sync")
    result = run(*bare, "bash", "recipes/vaopd_tiny_cpu.sh", *settings)
    left = stack_processes() - before
    return {"folder": Path(variables["RUN_DIR"]), "result": result, "left": left, "mode": request.param}


SHOWN = [
    r"setup: .*",
    r"\S+: (making models and data, once: some minutes|(complete|made in \d+ s) \(held-out figures read right: .*\))",
    r"drawing \d+ figures",
    r"(vision|answers): step \d+/\d+, loss [\d.]+, \d+ s",
    r"(teacher|student): [\d.]+% .*",
    r"checking settings, models and data",
    r"attention: student sdpa, teacher sdpa",
    r"data\.\w+: [\d,]+ of [\d,]+ rows checked, 0 bad",
    r"run folder: .+",
    r"what libraries and workers say: .+/worker\.log",
    r"starting Ray, vLLM, student and teacher",
    r"\d\d:\d\d:\d\d  vaopd: loading student and teacher \(.*\), starting vLLM",
    r"\d\d:\d\d:\d\d  (validating on 200 held-out problems|training from step \d+ to \d+)",
    r"\d\d:\d\d:\d\d  validation at step \d+: accuracy [\d.]+%, mean VA [\d.]+ nats",
    r"\d\d:\d\d:\d\d  step \d+/\d+  loss [\d.]+  KL .*  accuracy [\d.]+%  [\d.]+ s(  [\d.]+ (s|min) left)?",
    r"",
    r" +before +after",
    r"(step|held-out accuracy|held-out mean VA, nats|VA in the top 10% of tokens|exported student, step)[ \d.%]+",
    r"(student|figure|metrics) +/.+",
]
"""All forms of the lines that the recipe prints."""


def test_recipe_prints_only_what_tells_a_person_something(recipe):
    printed = recipe["result"].stdout.splitlines()
    assert [line for line in printed if not any(re.fullmatch(form, line) for form in SHOWN)] == []
    steps = [line for line in printed if "  step " in line]
    assert all(line.endswith(" left") for line in steps[:-1]) and not steps[-1].endswith(" left")


def test_what_libraries_and_workers_say_is_in_the_runs_folder(recipe):
    said = (recipe["folder"] / "worker.log").read_text()
    assert "engine is not available" in said and "ray init kwargs" in said  # of the checks, of the run's start
    assert "(vLLMHttpServer pid=" in said
    assert "Unhandled error" not in said


def test_recipe_distils_a_student_that_reads(recipe):
    assert recipe["result"].returncode == 0
    assert not recipe["left"]
    summary = json.loads((recipe["folder"] / "summary.json").read_text())
    before, after = summary["before"], summary["after"]
    assert after["accuracy"] >= 1.4 * before["accuracy"] and after["accuracy"] > 0.4
    steps = [record for record in records(recipe["folder"]) if "loss" in record]
    assert [step["step"] for step in steps] == list(range(1, RECIPE_STEPS + 1))
    assert steps[-1]["loss"] < steps[0]["loss"]
    drifts = [record["drift/mean"] for record in steps if "drift/mean" in record]
    assert drifts and max(drifts) < 1e-5  # with partial rollouts not every step has tokens of the current weights alone
    assert len(drifts) == len(steps) or recipe["mode"] != "sync"
    assert (recipe["folder"] / "curves.png").stat().st_size > 10_000
    assert "held-out accuracy" in recipe["result"].stdout


def test_exported_student_answers_in_transformers_and_vllm(recipe):
    assert_answers_alike(recipe["folder"] / "student", TINY / "data" / "test.parquet")


def test_bad_input_is_refused_before_anything_starts(tmp_path):
    """A teacher with another tokenizer, and a row without its image: named, with exit code 2."""
    from verl_vaopd.tiny.models import random_models

    student, teacher = random_models(tmp_path)
    data = mixed_rows(tmp_path / "data.parquet", 3)
    shutil.copytree(teacher, tmp_path / "other")
    tokenizer = json.loads((tmp_path / "other" / "tokenizer.json").read_text())
    first, second = list(tokenizer["model"]["vocab"])[:2]
    vocab = tokenizer["model"]["vocab"]
    vocab[first], vocab[second] = vocab[second], vocab[first]
    (tmp_path / "other" / "tokenizer.json").write_text(json.dumps(tokenizer))
    result = run(*train_command(tmp_path / "run", student, tmp_path / "other", data))
    assert result.returncode == 2 and "tokenizer ids" in result.stdout

    rows = pq.read_table(data).to_pylist()
    rows[1]["images"] = []
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "bad.parquet")
    result = run(*train_command(tmp_path / "run", student, teacher, tmp_path / "bad.parquet"))
    assert result.returncode == 2 and "row 1" in result.stdout and "placeholder" in result.stdout
    assert not (tmp_path / "run").exists()
