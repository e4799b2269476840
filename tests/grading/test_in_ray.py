"""Graders of a Ray actor that scores as verl's reward worker does: from the threads of its event loop."""

import os
import subprocess
import sys

import pytest

SCRIPT = r"""
import asyncio, os, time
import ray


@ray.remote
class RewardWorker:
    async def score(self, texts, truth):
        from verl_vaopd.data.reward import compute_score

        loop = asyncio.get_running_loop()
        call = lambda text: loop.run_in_executor(None, lambda: compute_score("any", text, truth)["score"])
        return await asyncio.gather(*map(call, texts))

    def processes(self):
        from verl_vaopd.grading import pool

        return [pool._pool.process.pid, *(grader.pid for grader in pool._pool._idle)]


def gone(pid):
    try:
        return open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0] in "ZX"
    except FileNotFoundError:
        return True


ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
worker = RewardWorker.remote()
right, hang = r"\boxed{\sin x+1}", r"\boxed{\binom{10^9}{10^8+%d}}"
assert ray.get(worker.score.remote([right, r"\boxed{\sin x}", "1+\\sin x"], r"1+\sin x")) == [1.0, 0.0, 1.0]
scores = ray.get(worker.score.remote([hang % n for n in range(32)] + [right], r"1+\sin x"), timeout=1800)
assert scores[:32] == [0.0] * 32
time.sleep(15)  # patience comes back
assert ray.get(worker.score.remote([r"\boxed{\sin x+1+0}"], r"1+\sin x")) == [1.0]
processes = ray.get(worker.processes.remote())
assert len(processes) > 1 and not any(map(gone, processes))
ray.kill(worker)
deadline = time.monotonic() + 60
while not all(map(gone, processes)):
    assert time.monotonic() < deadline, processes
    time.sleep(0.2)
print("nothing left")
"""


@pytest.mark.stack
@pytest.mark.gigabytes(3)
def test_an_actors_graders_work_and_go_with_it():
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        capture_output=True,
        text=True,
        timeout=1800,
        env={**os.environ, "PYTHONPATH": ""},
    )
    assert run.returncode == 0 and run.stdout.endswith("nothing left\n"), run.stdout + run.stderr
