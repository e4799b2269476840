"""The recipe on real clusters, all on this machine: Ray with two nodes, Slurm with two nodes."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
import torch

from tests.slurm_cluster import SlurmCluster, missing_programs
from tests.stack import ROOT, mixed_rows, records, run, tiny_folder
from verl_vaopd.runlog.gauges import METRICS, PHASE_SECONDS, PHASES

ENDED = ("COMPLETED", "CANCELLED", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY")
HANG = 900  # seconds; a bound for what hangs, far above what a busy machine takes
RAY = Path(sys.executable).parent / "ray"


def wait_until(condition, seconds: float, what: str, log=lambda: ""):
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s\n{log()}"
        time.sleep(0.5)
    return result


def text_of(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def two_ray_nodes(tmp_path):
    """Two raylets of one slot each; what a client's environment needs, and the ports of dashboard and metrics."""
    token = tmp_path / "token"
    token.write_text("0123456789abcdef" * 4)
    ports = {name: free_port() for name in ("gcs", "dashboard", "metrics", "metrics of node 2")}
    env = {
        **os.environ,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_metrics_report_interval_ms": "1000",
    }
    env.pop("RAY_ADDRESS", None)
    shared = ["--node-ip-address=127.0.0.1", "--num-cpus=16", "--num-gpus=1", "--disable-usage-stats"]
    head = [f"--port={ports['gcs']}", "--dashboard-host=127.0.0.1", f"--dashboard-port={ports['dashboard']}"]
    head += ["--head", f"--metrics-export-port={ports['metrics']}"]
    node = [sys.executable, "-m", "verl_vaopd.launch.cluster", "node", *shared]
    address = f"127.0.0.1:{ports['gcs']}"
    wait = [sys.executable, "-m", "verl_vaopd.launch.cluster", "wait", "--timeout", str(HANG), "--nodes"]
    processes = []
    try:
        second = [f"--address={address}", f"--metrics-export-port={ports['metrics of node 2']}"]
        for count, arguments in enumerate((head, second), start=1):
            processes.append(subprocess.Popen([*node, *arguments], env=env))
            subprocess.run([*wait, str(count)], env={**env, "RAY_ADDRESS": address}, check=True)
        yield env, ports
    finally:
        for process in processes:
            process.send_signal(signal.SIGUSR2)
        for process in processes:
            assert process.wait(timeout=60) == 0


def scraped(port: int) -> dict[str, float]:
    """Training gauges in Prometheus' text format; phases as ``phase_seconds/NAME``."""
    found = {}
    with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as reply:
        for line in reply.read().decode().splitlines():
            if line.startswith("ray_vaopd_"):
                name, _, rest = line.removeprefix("ray_").partition("{")
                tags, _, value = rest.rpartition("} ")
                assert 'run="vaopd_tiny_cpu"' in tags
                phase = tags.partition('phase="')[2].partition('"')[0]
                found[f"{name}/{phase}" if phase else name] = float(value.split()[0])
    return found


def expected_gauges(record: dict) -> dict[str, float]:
    gauges = {each.gauge: record[each.metric] for each in METRICS if each.metric in record}
    return gauges | {f"{PHASE_SECONDS}/{name}": record[f"time/{name}"] for name in PHASES if f"time/{name}" in record}


@pytest.mark.stack
@pytest.mark.gigabytes(12.5)
def test_ray_job_on_two_nodes(two_ray_nodes, tmp_path):
    """``ray job submit`` of the recipe with NNODES=2: one FSDP rank and one vLLM replica a node.

    The teacher is the student, so the loss is 0; tokens are weighed by the KL between its views. Gauges as Prometheus
    scrapes them; the names in the dashboard's list of actors.
    """
    from verl_vaopd.tiny.models import random_models

    env, ports = two_ray_nodes
    student, _ = random_models(tmp_path / "models")
    data, output = mixed_rows(tmp_path / "data.parquet", 6), tmp_path / "run"
    steps = 4
    overrides = [
        f"actor_rollout_ref.model.path={student}",
        f"vaopd.teacher.path={student}",
        f"data.train_files={data}",
        f"data.val_files={data}",
        "data.train_batch_size=6",
        "actor_rollout_ref.actor.ppo_mini_batch_size=2",
        "actor_rollout_ref.model.enable_gradient_checkpointing=true",
        "actor_rollout_ref.rollout.engine_kwargs.vllm.limit_mm_per_prompt.image=2",
        "vaopd.score=distribution",
        "vaopd.max_drift=1e-5",
        "actor_rollout_ref.actor.optim.lr=1e-9",
        f"trainer.total_training_steps={steps}",
        "trainer.save_freq=-1",
        "trainer.test_freq=-1",
    ]
    address = f"http://127.0.0.1:{ports['dashboard']}"
    job_env = {"NNODES": "2", "RUN_DIR": str(output), "HOME": os.environ["HOME"], "VAOPD_TINY_DIR": str(tiny_folder())}
    submit = [RAY, "job", "submit", "--no-wait", "--address", address, "--submission-id", "tiny"]
    submit += ["--runtime-env-json", json.dumps({"env_vars": job_env}), "--"]
    submit += ["bash", ROOT / "recipes" / "vaopd_tiny_cpu.sh", *overrides]
    wait_until(lambda: run(*submit, **env).returncode == 0, HANG, "an agent of Ray that takes the job")

    def job(action: str) -> str:
        shown = subprocess.run(
            [RAY, "job", action, "--address", address, "tiny"], env=env, text=True, capture_output=True
        )
        return shown.stdout + shown.stderr

    def log() -> str:
        return job("logs")[-6000:]

    # As Prometheus does it: every node is asked, again and again, and a series keeps the last value seen. (An agent
    # drops what no worker has reported for two seconds.)
    shown, matches, asked_at = {}, [], time.monotonic()

    def finished() -> bool:
        for node in ("metrics", "metrics of node 2"):
            shown.update(scraped(ports[node]))
        for record in records(output) if (output / "metrics.jsonl").exists() else []:
            expected = expected_gauges(record)
            if "loss" in record and expected.items() <= shown.items():
                matches.append(record["step"])
        if (output / "summary.json").exists():
            return True
        nonlocal asked_at  # each question costs seconds of CPU
        if time.monotonic() - asked_at > 30:
            asked_at = time.monotonic()
            return "failed" in job("status")
        return False

    wait_until(finished, 2 * HANG, "the job's end", log)
    wait_until(lambda: "succeeded" in job("status"), HANG, "the job's success", log)
    logged = [record for record in records(output) if "loss" in record]
    assert [record["step"] for record in logged] == list(range(1, steps + 1))
    for record in logged:
        assert abs(record["loss"]) < 1e-6 and record["drift/mean"] < 1e-5
        assert record["va/mean"] > 0.01 and record["va_distribution/mean"] > 0.01
    assert matches, f"no scrape equalled a line of metrics.jsonl; seen: {shown}"
    # The dashboard lists actors that have ended, too.
    listed = run(RAY, "list", "actors", "--address", address, "--format=json", "--limit=1000", "--detail", **env)
    actors = json.loads(listed.stdout[listed.stdout.index("[") :])
    named = {(actor["name"], actor["node_id"]) for actor in actors}
    trainers = {node for name, node in named if name.startswith("student_and_teacher_")}
    assert len(trainers) == 2, named
    assert "vaopd_driver" in {name for name, _ in named}


needs_slurm = pytest.mark.skipif(
    bool(missing_programs()), reason=f"Slurm is not installed here: no {', '.join(missing_programs())}"
)


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    if os.geteuid() != 0:
        pytest.skip("slurmctld and slurmd of this test run as root")
    with SlurmCluster(tmp_path_factory.mktemp("slurm")) as cluster:
        yield cluster


def submit(slurm: SlurmCluster, run_dir: Path, recipe, *arguments) -> str:
    """Number of the job."""
    result = slurm.run(
        *("bash", ROOT / "scripts" / "slurm" / "submit.sh", recipe, *arguments),
        RUN_DIR=str(run_dir),
        CPU_JOB="yes",
        VAOPD_TINY_DIR=str(tiny_folder()),
    )
    assert result.returncode == 0, result.stdout
    return result.stdout.split("job ")[1].split(":")[0]


def wait_for_state(slurm: SlurmCluster, job: str, wanted: str, seconds: float, log: Path) -> None:
    wait_until(
        lambda: slurm.state(job) in (wanted, *ENDED), seconds, f"{wanted}, now {slurm.state(job)}", lambda: text_of(log)
    )
    assert slurm.state(job) == wanted, text_of(log)[-6000:]


@needs_slurm
@pytest.mark.stack
def test_the_time_limit_asks_the_run_to_stop_and_queues_the_job_again(slurm, tmp_path):
    """A stand-in for the recipe, to be quick; Slurm, the signal, Ray on both nodes and the second attempt are real."""
    recipe, log = tmp_path / "recipe.sh", tmp_path / "run" / "slurm-%j.log"
    recipe.write_text(
        """#!/usr/bin/env bash
        if [[ -e "$RUN_DIR/checkpoint" ]]; then
          "$PYTHON" -c 'import ray; ray.init(logging_level="ERROR"); print("resumed on", len(ray.nodes()), "nodes")'
          exit 0
        fi
        trap 'touch "$RUN_DIR/checkpoint"; echo saved; exit 0' TERM
        echo "training $1 on $NNODES nodes"
        for _ in {1..600}; do sleep 0.1; done
        """
    )
    slurm.env["PYTHON"] = sys.executable
    job = submit(slurm, tmp_path / "run", recipe, "--nodes=2", "--", "a=b")
    log = tmp_path / "run" / f"slurm-{job}.log"
    wait_until(lambda: "training a=b on 2 nodes" in text_of(log), HANG, "the recipe's start", lambda: text_of(log))
    slurm.run("scancel", "--batch", "--signal=USR1", job)  # what --signal=B:USR1 sends before the limit
    wait_until(lambda: "queued again" in text_of(log), HANG, "the second place in the queue", lambda: text_of(log))
    idle = ["idle", "idle"]
    wait_until(lambda: slurm.node_states() == idle, HANG, "the end of the first attempt", lambda: text_of(log))
    assert slurm.state(job) == "PENDING", text_of(log)[-6000:]
    # Slurm lets a job wait two minutes. Within the second of the kill a node refuses the next attempt.
    slurm.run("scontrol", "update", f"jobid={job}", "StartTime=now+5")
    wait_for_state(slurm, job, "COMPLETED", HANG, log)
    assert "attempt 2" in text_of(log) and "resumed on 2 nodes" in text_of(log)
    assert not list((tmp_path / "run").glob(".ray-token*"))


@needs_slurm
@pytest.mark.stack
def test_slurm_job_is_cancelled_and_resumes(slurm, tmp_path):
    """The recipe: cancelled in the middle it saves, submitted again it goes on from there to its end.

    The first submission trains by GRPO, the second goes on by PAPO: three steps of either.
    """
    output = tmp_path / "run"
    progress = output / "progress.log"
    settings = [
        "vaopd.log_rollout_prompts=16",
        "vaopd.max_drift=1e-5",
        "trainer.val_before_train=false",
        "trainer.save_freq=1000",  # so the only checkpoints are the one of the cancelled job and the last
        "trainer.test_freq=1000",
        "data.val_max_samples=8",
    ]
    recipe = ROOT / "recipes" / "vaopd_tiny_cpu.sh"
    first = ["vaopd.method=grpo", "trainer.total_training_steps=100"]
    job = submit(slurm, output, recipe, "--nodes=1", "--", *first, *settings)
    log = output / f"slurm-{job}.log"
    wait_until(
        lambda: "step 3/100" in text_of(progress) or slurm.state(job) in ENDED,
        HANG,
        "three steps",
        lambda: text_of(log)[-6000:],
    )
    assert "step 3/100" in text_of(progress), text_of(log)[-6000:]
    slurm.run("scancel", job)
    wait_for_state(slurm, job, "CANCELLED", HANG, log)
    saved = int((output / "checkpoints" / "latest_checkpointed_iteration.txt").read_text())
    assert f"stopped as asked after step {saved}" in text_of(progress)
    assert not (output / "summary.json").exists()
    check_grpo(output)

    end = saved + 3
    second = ["vaopd.method=papo", f"trainer.total_training_steps={end}"]
    job = submit(slurm, output, recipe, "--nodes=1", "--", *second, *settings)
    wait_for_state(slurm, job, "COMPLETED", HANG, output / f"slurm-{job}.log")
    assert f"training from step {saved + 1} to {end}" in text_of(progress)
    steps = [record for record in records(output) if "loss" in record]
    assert [record["step"] for record in steps] == list(range(1, end + 1))
    summary = json.loads((output / "summary.json").read_text())
    assert summary["steps"] == end and (Path(summary["student"]) / "config.json").exists()
    for record in steps[saved:]:
        assert record["grad_norm"] > 0
        assert record["papo/perception_kl"] > 0.01  # a student that reads images badly still looks at them
        assert record["papo/masked_entropy"] != record["policy/entropy"]


def check_grpo(output: Path) -> None:
    """No teacher; advantages within each group of siblings; every token of the batch weighs the same."""
    assert "teacher" not in text_of(output / "progress.log")
    for record in records(output):
        assert record["policy/entropy"] > 0 and record["grad_norm"] > 0
        assert record["policy/clipped"] == 0  # the policy that learns is the one that sampled
    rows = [json.loads(line) for line in (output / "rollouts" / "step_1.jsonl").read_text().splitlines()]
    assert len(rows) == 16 * 4
    tokens = sum(len(row["token_ids"]) for row in rows)
    for prompt in range(16):
        group = [row for row in rows if row["prompt"] == prompt]
        rewards = torch.tensor([row["accuracy"] for row in group])
        expected = (rewards - rewards.mean()) / (rewards.std() + 1e-6)
        assert [row["advantage"] for row in group] == pytest.approx(expected.tolist(), abs=1e-5)
        for row in group:
            length = len(row["token_ids"])
            assert row["coefficient"] == pytest.approx([row["advantage"] / tokens] * length, abs=1e-7)
