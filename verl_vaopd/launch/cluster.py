"""A Ray node that outlives SIGTERM, and waiting for all nodes: what scripts/slurm needs.

    python -m verl_vaopd.launch.cluster node ARGUMENTS_OF_RAY_START
    python -m verl_vaopd.launch.cluster wait --nodes N [--timeout SECONDS]

When a job is cancelled or reaches its time limit, Slurm sends SIGTERM to all of its processes at once. Ray's would end
there and then, and the driver could not save a checkpoint. So they are started with SIGTERM blocked, which survives
fork and exec (platform/signals.py keeps it so in the workers); the node ends, with all it started, on SIGUSR2 or when
Ray itself ends.
"""

import argparse
import os
import signal
import subprocess
import sys
import time

from verl_vaopd.launch.shared_memory import removed_segments
from verl_vaopd.launch.supervisor import become_reaper, end_descendants
from verl_vaopd.platform.segments import SEGMENT_PREFIX
from verl_vaopd.platform.signals import HOLD_SIGTERM


def run_node(arguments: list[str]) -> int:
    """Run ``ray start --block`` until SIGUSR2 or until it ends. Returns its exit status, 0 after SIGUSR2."""
    become_reaper()
    asked = []
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGUSR2, lambda *_: asked.append(True))
    ray = os.path.join(os.path.dirname(sys.executable), "ray")
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # inherited
    with removed_segments() as prefix:
        env = {**os.environ, HOLD_SIGTERM: "1", SEGMENT_PREFIX: prefix}
        child = subprocess.Popen([ray, "start", "--block", *arguments], env=env, start_new_session=True)
        while child.poll() is None and not asked:
            time.sleep(0.2)
        end_descendants()
    return 0 if asked else child.returncode


def wait_for_nodes(nodes: int, timeout_s: float) -> None:
    """Return when ``nodes`` nodes of the cluster at ``RAY_ADDRESS`` are alive.

    Raises:
        TimeoutError: says how many came.
    """
    import ray

    deadline, shown = time.monotonic() + timeout_s, None
    while True:
        try:
            ray.init(logging_level="ERROR")
            break
        except ConnectionError:
            if time.monotonic() > deadline:
                raise TimeoutError(f"no Ray head at {os.environ['RAY_ADDRESS']} within {timeout_s:.0f} s") from None
            time.sleep(1)
    while (alive := sum(node["Alive"] for node in ray.nodes())) < nodes:
        if alive != shown:
            print(f"{alive} of {nodes} Ray nodes are in", flush=True)
            shown = alive
        if time.monotonic() > deadline:
            raise TimeoutError(f"{alive} of {nodes} Ray nodes came within {timeout_s:.0f} s: see their part of the log")
        time.sleep(0.5)
    print(f"{nodes} of {nodes} Ray nodes are in", flush=True)
    ray.shutdown()


def main(argv: list[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    if argv[:1] == ["node"]:
        return run_node(argv[1:])
    parser = argparse.ArgumentParser(prog="python -m verl_vaopd.launch.cluster")
    parser.add_argument("action", choices=["wait"])
    parser.add_argument("--nodes", type=int, required=True)
    parser.add_argument("--timeout", type=float, default=600, help="seconds")
    settings = parser.parse_args(argv)
    try:
        wait_for_nodes(settings.nodes, settings.timeout)
    except TimeoutError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
