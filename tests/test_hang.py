"""Parts of a run stopped by SIGSTOP in turn: they neither answer nor die. Each time the run names what hangs, keeps the
stacks, ends all its processes and goes on from its last checkpoint."""

import re
import signal
import time

import psutil
import pytest

from tests.stack import mixed_rows
from tests.test_kills import Run
from tests.test_stack import stack_processes, train_command

pytestmark = [pytest.mark.stack, pytest.mark.long]

STEPS = 200
PARTS = {  # title of its process
    "vLLM worker": r"VLLM::Worker",
    "vLLM engine": r"VLLM::EngineCore",
    "vLLM server": r"ray::vLLMHttpServer",
    "student and teacher": r"ray::WorkerDict",
    "agent loop": r"ray::VisionAgentLoopWorker",
    "TransferQueue": r"ray::SimpleStorageUnit",
    "driver": r"ray::(VAOPD)?TaskRunner",
    "raylet": r"/raylet",
}


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param(["student and teacher"], id="one"),
        pytest.param([part for part in PARTS if part != "student and teacher"], id="others"),
    ],
)
def test_a_run_whose_parts_are_stopped_is_named_and_goes_on(parts, tmp_path, request):
    from verl_vaopd.tiny.models import random_models

    student, teacher = random_models(tmp_path / "models")
    data, output = mixed_rows(tmp_path / "data.parquet", 6), tmp_path / "run"
    settings = (
        "data.train_batch_size=6",
        "actor_rollout_ref.rollout.engine_kwargs.vllm.limit_mm_per_prompt.image=2",
        "vaopd.hang_factor=8",
        "trainer.val_before_train=false",
        "trainer.test_freq=-1",
        "trainer.save_freq=1",
        f"trainer.total_training_steps={STEPS}",
    )
    before = stack_processes()
    command = train_command(output, student, teacher, data, *settings)
    hung = Run([*command, "--restarts", str(len(parts))], output)
    request.addfinalizer(hung.kill)
    shown = 0

    def progress() -> str:
        return hung.progress.read_text() if hung.progress.exists() else ""

    def steps(count: int) -> None:
        """So many more steps have ended since the first ``shown`` characters of progress.log."""
        words = f"/{STEPS}  loss"
        hung.wait_until(lambda: progress()[shown:].count(words) >= count, 900, f"{count} steps")

    for part in parts:
        steps(4)  # three are needed to know how long one takes
        said, victim, others = len(hung.said()), hung.find(PARTS[part]), hung.tree()
        victim.send_signal(signal.SIGSTOP)
        hung.wait_until(lambda said=said: "starting again" in hung.said()[said:], 600, f"end of the run: {part}")
        words = hung.said()[said:].split("starting again")[0]
        told = re.search(r"step \d+(, its weights to vLLM)? hangs: .*stacks of all processes: (\S+)", words)
        assert told and "vaopd.hang_factor" in told[0], f"{part}: {words[-4000:]}"
        stacks = (output / "faults" / told[2].split("/")[-1]).read_text()
        assert "ray::" in stacks and "VLLM::" in stacks and "_step_once" in stacks
        if part != "raylet":  # not Python's
            assert "stopped by a signal: " in told[0] and re.search(PARTS[part], told[0])
        assert not [each for each in others if each.is_running() and each.status() != psutil.STATUS_ZOMBIE], part
        shown = len(progress())
    steps(1)
    hung.process.send_signal(signal.SIGTERM)
    assert hung.process.wait(timeout=1800) == 0, hung.said()[-3000:]
    time.sleep(1)
    assert not stack_processes() - before
