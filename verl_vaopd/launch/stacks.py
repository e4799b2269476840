"""The stacks of a run's Python processes, by py-spy, without stopping them."""

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TextIO

import psutil

PY_SPY = str(Path(sys.executable).parent / "py-spy")
TIMEOUT_S = 20
"""For one process, which may be in a state that cannot be read."""
ANSWER_S = 120
"""For a node of the cluster, which may hang itself."""
NAMES = ("ray::", "VLLM", "python")


def stacks_of_run(file: TextIO) -> list[str]:
    """Write the stacks of all that this process has started; on a cluster that it has only joined, of Ray's workers on
    every node.

    Returns:
        The names of processes that a signal has stopped.
    """
    if "RAY_ADDRESS" in os.environ:
        found = (part for node in _of_nodes() for part in node)
    else:
        found = _of(psutil.Process().children(recursive=True))
    stopped = []
    for name, status, stack in found:
        file.write(f"==== {name} ({status})\n{stack}\n")
        file.flush()
        if status == psutil.STATUS_STOPPED:
            stopped.append(name)
    return stopped


def _of(processes: Iterable[psutil.Process]) -> Iterator[tuple[str, str, str]]:
    """(name and number, status, stack) of each that is Python's."""
    for process in processes:
        try:
            title, status = " ".join(process.cmdline()), process.status()
        except psutil.Error:  # ended meanwhile
            continue
        program = os.path.basename(title.split(" ")[0])
        if title.startswith(NAMES) or program.startswith(NAMES):
            name = title.split(" ")[0] if title.startswith(NAMES) else title[:120]
            yield f"{name} (pid {process.pid})", status, _stack(process.pid)


def _stack(pid: int) -> str:
    command = [PY_SPY, "dump", "--nonblocking", "--pid", str(pid)]
    try:
        shown = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"no stack: {error}"
    return shown.stdout if shown.returncode == 0 else f"no stack: {shown.stderr.strip()}"


def _of_nodes() -> list[list[tuple[str, str, str]]]:
    """The workers of this user's on each node, asked by a task of Ray's there."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    @ray.remote(num_cpus=0, max_retries=0)
    def here() -> list[tuple[str, str, str]]:
        me = psutil.Process()
        mine = psutil.process_iter(["uids", "cmdline"])  # None: it has ended, or may not be looked at
        mine = (p for p in mine if p.pid != me.pid and p.info["uids"] and p.info["uids"].real == me.uids().real)
        return list(_of(p for p in mine if " ".join(p.info["cmdline"] or ()).startswith(("ray::", "VLLM"))))

    nodes = [node for node in ray.nodes() if node["Alive"]]
    asked = {
        here.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote(): node
        for node in nodes
    }
    answered, silent = ray.wait(list(asked), num_returns=len(asked), timeout=ANSWER_S)
    found = []
    for answer in answered:
        try:
            found.append(ray.get(answer))
        except ray.exceptions.RayError as error:
            found.append([(asked[answer]["NodeManagerAddress"], "no answer", str(error))])
    return found + [[(asked[node]["NodeManagerAddress"], "no answer", f"none in {ANSWER_S} s")] for node in silent]
