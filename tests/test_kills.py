"""Every part of a run killed in turn, at a random moment of a step, against the run that nobody touched.

Student and teacher are in processes of their own, every step is saved, rollouts have seeds of their own. The rows have
one image, two or none, and the images are odd ones.
VAOPD_SOAK_DIR (a temporary folder: where the table goes) is set by scripts/soak.sh.
"""

import contextlib
import json
import os
import random
import re
import subprocess
import time
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from tests.checks.odd_images import ODD_IMAGES
from tests.stack import ROOT, mixed_rows, records, run
from tests.test_stack import stack_processes, train_command
from tests.watching import segments

pytestmark = [pytest.mark.stack, pytest.mark.long]

STEPS = 40
VICTIMS = {  # title of its process, and what the error must say
    "student worker": (r"ray::WorkerDict", r"student_\w+ died|ActorDiedError|name: student_"),
    "vLLM engine": (r"VLLM::EngineCore", r"the vLLM engine of vllm_server_0_0 died"),
    "vLLM worker": (r"VLLM::Worker", r"the vLLM engine of vllm_server_0_0 died"),
    "teacher worker": (r"ray::Teacher", r"teacher_\w+ died|name: teacher_"),
    "driver": (r"ray::(VAOPD)?TaskRunner", r"the driver died: "),
    "process that started the driver": (r"verl_vaopd\.launch\.main", r"ended with status 137"),
    "disk, full in a save": (r"ray::WorkerDict", r"checkpoint of step \d+ cannot be written to .*File too large"),
}


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    """What starts a run in a folder."""
    from verl_vaopd.tiny.models import random_models

    folder = tmp_path_factory.mktemp("models")
    student, teacher = random_models(folder)
    data = mixed_rows(folder / "data.parquet", 12)  # two batches an epoch, 12 images
    table = pq.read_table(data)
    rows, files = table.to_pylist(), iter([file for file, *_ in ODD_IMAGES.values()][:12])
    for row in rows:
        row["images"] = [{**image, "bytes": next(files)} for image in row["images"]]
    assert not list(files)
    pq.write_table(pa.Table.from_pylist(rows, table.schema), data)

    def command_for(output: Path) -> list[str]:
        return train_command(
            output,
            student,
            teacher,
            data,
            "vaopd.teacher.placement=separate",
            "vaopd.max_drift=1e-5",  # vLLM and the student see the same pixels
            "data.train_batch_size=6",
            "actor_rollout_ref.rollout.n=2",
            "actor_rollout_ref.rollout.engine_kwargs.vllm.limit_mm_per_prompt.image=2",
            "trainer.test_freq=10",
            "trainer.save_freq=1",
            "trainer.max_actor_ckpt_to_keep=2",
            f"trainer.total_training_steps={STEPS}",
        )

    return command_for


@pytest.fixture(scope="module")
def undisturbed(command, tmp_path_factory):
    output = tmp_path_factory.mktemp("undisturbed")
    assert run(*command(output)).returncode == 0
    return output


class Run:
    """A run whose words go to a file."""

    def __init__(self, command: list[str], output: Path):
        self.log, self.progress = output.parent / "log.txt", output / "progress.log"
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)

    def said(self) -> str:
        return self.log.read_text()

    def wait_until(self, happened, seconds: float, what: str) -> None:
        deadline = time.monotonic() + seconds
        while not happened():
            assert time.monotonic() < deadline, f"no {what} within {seconds} s: {self.said()[-6000:]}"
            assert self.process.poll() is None, f"ended before {what}: {self.said()[-6000:]}"
            time.sleep(0.05)

    def tree(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def kill(self) -> None:
        """All processes at once."""
        if self.process.poll() is None:
            for process in [*self.tree(), psutil.Process(self.process.pid)]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        self.process.wait()

    def find(self, title: str) -> psutil.Process:
        found = [each for each in self.tree() if re.search(title, " ".join(each.cmdline()) or each.name())]
        assert found, [each.name() for each in self.tree()]
        return found[0]


def test_a_run_whose_parts_are_killed_ends_like_the_one_that_nobody_touched(command, undisturbed, tmp_path, request):
    seed = time.time_ns() % 10**6
    print(f"seed of the moments: {seed}")
    chance, output = random.Random(seed), tmp_path / "run"
    before, memory = stack_processes(), segments()
    killed = Run([*command(output), "--restarts", "10"], output)
    request.addfinalizer(killed.kill)
    took = {}

    def in_the_middle_of_a_step(shown: int) -> None:
        """Once a step has ended after the first ``shown`` characters of progress.log, at a random moment."""

        def ended() -> bool:
            return killed.progress.exists() and f"/{STEPS}  loss" in killed.progress.read_text()[shown:]

        killed.wait_until(ended, 900, "step")
        time.sleep(chance.uniform(0, 3))

    shown = 0
    for name, (title, told) in VICTIMS.items():
        in_the_middle_of_a_step(shown)
        said, victim = len(killed.said()), killed.find(title)
        others = killed.tree()
        if name.startswith("disk"):
            victim.rlimit(psutil.RLIMIT_FSIZE, (100_000, 100_000))  # a save of more fails, as on a full disk
        else:
            victim.kill()
        killed_at = time.monotonic()
        killed.wait_until(lambda said=said: "starting again" in killed.said()[said:], 60, f"end of the run: {name}")
        took[name], shown = time.monotonic() - killed_at, len(killed.progress.read_text())
        words = killed.said()[said:].split("starting again")[0]
        assert re.search(told, words), f"{name}: {words[-4000:]}"
        assert not [each for each in others if each.is_running() and each.status() != psutil.STATUS_ZOMBIE], name
    report(took, Path(os.environ.get("VAOPD_SOAK_DIR", tmp_path)))

    in_the_middle_of_a_step(shown)
    killed.kill()
    assert not (output / "summary.json").exists()

    assert run(*command(output)).returncode == 0
    assert not stack_processes() - before
    assert segments() == memory
    assert_same(undisturbed, output)


def report(took: dict[str, float], folder: Path) -> None:
    """``kills.md`` in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [f"| {name} | {seconds:.1f} |" for name, seconds in took.items()]
    lines = ["| killed | seconds to the end of the run and all its processes |", "|---|---|", *rows]
    (folder / "kills.md").write_text("\n".join(lines) + "\n")


def assert_same(one: Path, other: Path) -> None:
    """Bit-equal parameters and optimiser after the last step; the same loss at every step on the way."""
    losses = [[r["loss"] for r in records(output) if "loss" in r] for output in (one, other)]
    assert losses[0] == losses[1] and len(losses[0]) == STEPS
    states = [checkpoint_state(output) for output in (one, other)]
    assert set(states[0]) == set(states[1]) and len(states[0]) > 100
    for name, value in states[0].items():
        assert same(value, states[1][name]), name
    best = [json.loads((output / "student" / "vaopd_checkpoint.json").read_text()) for output in (one, other)]
    assert best[0]["step"] == best[1]["step"] and best[0]["accuracy"] == best[1]["accuracy"]


def same(one, other) -> bool:
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


def checkpoint_state(output: Path) -> dict:
    """Everything in the student's last checkpoint, by name."""
    from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

    step = (output / "checkpoints" / "latest_checkpointed_iteration.txt").read_text().strip()
    assert int(step) == STEPS
    whole = output / "whole.pt"
    dcp_to_torch_save(next((output / "checkpoints" / f"global_step_{step}" / "actor").rglob(".metadata")).parent, whole)
    state = torch.load(whole, weights_only=True)
    flat = {}

    def walk(name: str, value) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                walk(f"{name}.{key}", inner)
        else:
            flat[name] = value

    walk("", state)
    return flat
