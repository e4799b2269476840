"""``trainer_mode=colocate_async`` on the whole stack: stopped in the middle, resumed, every prompt trained on once."""

import json
import signal
from collections import Counter
from pathlib import Path

import pytest

from tests.stack import read_summary, records, run, tiny_folder
from tests.test_kills import Run
from tests.test_stack import interrupt_after, stack_processes, train_command

pytestmark = pytest.mark.stack

STEPS, BATCH, SIBLINGS = 6, 4, 2


def one_epoch(folder: Path, steps: int) -> tuple[Path, list[str]]:
    """A run's folder, and the command of one epoch over as many rows as ``steps`` take."""
    import pyarrow.parquet as pq

    tiny = tiny_folder()
    table = pq.read_table(tiny / "data" / "train.parquet").slice(0, steps * BATCH)
    pq.write_table(table, data := folder / "data.parquet")
    command = train_command(
        output := folder / "run",
        tiny / "student",
        tiny / "teacher",
        data,
        "trainer.v1.trainer_mode=colocate_async",
        "trainer.v1.colocate_async.num_warmup_batches=1",
        "trainer.v1.sampler.max_off_policy_threshold=2",
        "trainer.total_training_steps=null",
        "trainer.total_epochs=1",
        f"data.train_batch_size={BATCH}",
        f"actor_rollout_ref.rollout.n={SIBLINGS}",
        f"vaopd.log_rollout_prompts={BATCH}",
        "vaopd.max_drift=1e-5",
        "data.val_max_samples=4",
        "trainer.val_before_train=false",
    )
    return output, command


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """One epoch of 24 rows in 6 steps; SIGTERM after the second, then the same command to the end."""
    folder = tmp_path_factory.mktemp("partial")
    output, command = one_epoch(folder, STEPS)
    before, log = stack_processes(), folder / "stdout.log"
    status, _ = interrupt_after(2, command, output, log, {}, lambda _: None, signal.SIGTERM)
    left = stack_processes() - before
    stopped = int((output / "checkpoints" / "latest_checkpointed_iteration.txt").read_text())
    result = run(*command)
    assert result.returncode == 0
    return {"output": output, "status": status, "left": left, "stopped": stopped}


def rollouts(output, step: int) -> list[dict]:
    return [json.loads(line) for line in (output / "rollouts" / f"step_{step}.jsonl").read_text().splitlines()]


def test_sigterm_saves_what_is_on_its_way(trained):
    assert trained["status"] == 0 and not trained["left"]
    assert 2 <= trained["stopped"] < STEPS
    assert (trained["output"] / "checkpoints" / f"global_step_{STEPS}" / "transfer_queue").exists()


def check_each_prompt_came_once(output: Path, steps: int) -> None:
    seen = Counter(row["id"] for step in range(1, steps + 1) for row in rollouts(output, step))
    assert len(seen) == steps * BATCH and set(seen.values()) == {SIBLINGS}
    assert read_summary(output)["transfer_queue_entries"] == 0


def test_every_prompt_is_trained_on_once(trained):
    """By a run and its resumption: none is lost, none comes twice, and none waits at the end."""
    check_each_prompt_came_once(trained["output"], STEPS)


def test_the_weights_that_wrote_each_token_are_known(trained):
    logged = {record["step"]: record for record in records(trained["output"]) if "loss" in record}
    assert sorted(logged) == list(range(1, STEPS + 1))
    for step, record in logged.items():
        versions = [row["weight_version"] for row in rollouts(trained["output"], step)]
        oldest = [step - 1 - min(each) for each in versions]
        assert all(each == sorted(each) and each[-1] < step for each in versions)  # weights do not go back
        assert record["staleness/max"] == max(oldest) <= 1  # a bound of 2 and one batch ahead: 2 - 2 + 1
        assert record["staleness/mean"] == pytest.approx(sum(oldest) / len(oldest))
        assert record["staleness/tokens"] == pytest.approx(
            sum(version < step - 1 for each in versions for version in each) / sum(map(len, versions))
        )
    assert any(record["staleness/max"] for record in logged.values())


def test_vllm_and_the_trainer_agree_on_tokens_of_the_same_weights(trained):
    drifts = [record["drift/mean"] for record in records(trained["output"]) if "drift/mean" in record]
    assert drifts and max(drifts) < 1e-5


@pytest.mark.long
def test_no_prompt_is_lost_or_doubled_in_200_steps(tmp_path):
    output, command = one_epoch(tmp_path, 200)
    assert run(*command, "vaopd.max_drift=1e-4", "trainer.save_freq=50").returncode == 0
    check_each_prompt_came_once(output, 200)


@pytest.mark.long
def test_a_killed_run_goes_on_from_its_last_checkpoint(tmp_path, request):
    """The vLLM engine is killed, then the driver, while answers are unfinished; ``--restarts`` does the rest."""
    steps = 12
    output, command = one_epoch(tmp_path, steps)
    before = stack_processes()
    killed = Run([*command, "trainer.save_freq=2", "--restarts", "2"], output)
    request.addfinalizer(killed.kill)
    for title, after in ((r"VLLM::EngineCore", 3), (r"ray::(VAOPD)?TaskRunner", 7)):
        shown = f"step {after}/{steps}  loss"
        killed.wait_until(
            lambda shown=shown: killed.progress.exists() and shown in killed.progress.read_text(), 900, shown
        )
        said, victim = len(killed.said()), killed.find(title)
        victim.kill()
        killed.wait_until(lambda said=said: "starting again" in killed.said()[said:], 120, "end of the run")
    assert killed.process.wait(timeout=1200) == 0, killed.said()[-3000:]
    assert [line for line in killed.progress.read_text().splitlines() if f"training from step 3 to {steps}" in line]
    check_each_prompt_came_once(output, steps)
    assert not stack_processes() - before
