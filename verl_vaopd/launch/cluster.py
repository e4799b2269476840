"""A Ray node that outlives SIGTERM, waiting for all nodes, and a node's address: what scripts/slurm needs.

    python -m verl_vaopd.launch.cluster node ARGUMENTS_OF_RAY_START
    python -m verl_vaopd.launch.cluster wait --nodes N [--timeout SECONDS]
    python -m verl_vaopd.launch.cluster address [NAMES OF ANOTHER NODE]

When a job is cancelled or reaches its time limit, Slurm sends SIGTERM to all of its processes at once. Ray's would end
there and then, and the driver could not save a checkpoint. So they are started with SIGTERM blocked, which survives
fork and exec (platform/signals.py keeps it so in the workers); the node ends, with all it started, on SIGUSR2 or when
Ray itself ends.
"""

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import time

from verl_vaopd.launch.own_cluster import keep_sockets_short
from verl_vaopd.launch.shared_memory import removed_segments
from verl_vaopd.launch.supervisor import end_descendants
from verl_vaopd.platform.child import become_reaper
from verl_vaopd.platform.environment import put_environment_first
from verl_vaopd.platform.interfaces import own_address, use_interface_of
from verl_vaopd.platform.segments import SEGMENT_PREFIX
from verl_vaopd.platform.signals import HOLD_SIGTERM


def run_node(arguments: list[str]) -> int:
    """Run ``ray start --block`` until SIGUSR2 or until it ends. Returns its exit status, 0 after SIGUSR2."""
    arguments, address = with_address(arguments)
    env = dict(os.environ)
    keep_sockets_short(env)
    put_environment_first(env)
    if address:
        use_interface_of(address, env)
    become_reaper()
    asked = []
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGUSR2, lambda *_: asked.append(True))
    ray = os.path.join(os.path.dirname(sys.executable), "ray")
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # inherited
    with removed_segments() as prefix:
        env |= {HOLD_SIGTERM: "1", SEGMENT_PREFIX: prefix}
        child = subprocess.Popen([ray, "start", "--block", *arguments], env=env, start_new_session=True)
        while child.poll() is None and not asked:
            time.sleep(0.2)
        end_descendants()
    return 0 if asked else child.returncode


def with_address(arguments: list[str]) -> tuple[list[str], str | None]:
    """The arguments of ``ray start`` with this node's address, by which the head is reached, and that address.

    Ray itself takes the address that the internet is reached by, which may be in another network.
    """
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--address")
    parser.add_argument("--node-ip-address")
    given, _ = parser.parse_known_args(arguments)
    if given.node_ip_address or not given.address:
        return arguments, given.node_ip_address
    address = own_address(given.address.rpartition(":")[0].strip("[]"))
    return [*arguments, f"--node-ip-address={address}"], address


def address_for(names: list[str]) -> str:
    """The address at which other nodes reach this one: that on the way to one of them, known by any of the names.

    Without names this node is alone, and its address is loopback.

    Raises:
        ValueError: no name of the other node is known, and this node's own addresses do not tell.
    """
    if not names:
        return "127.0.0.1"
    for name in names:
        try:
            return own_address(name)
        except OSError:
            continue
    shown = subprocess.run(["hostname", "-I"], capture_output=True, text=True).stdout.split()
    usable = [each for each in shown if "." in each and not each.startswith(("127.", "169.254."))]
    if len(usable) > 1:  # the one that the world is reached by; nothing is sent
        with contextlib.suppress(OSError):
            usable = [each for each in usable if each == own_address("192.0.2.1")]
    if len(usable) != 1:
        raise ValueError(
            f"none of {', '.join(names)} resolves, and this node's addresses ({' '.join(shown)}) do not tell which "
            "one other nodes reach: set NODE_ADDRESS to it"
        )
    return usable[0]


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
    actions = parser.add_subparsers(dest="action", required=True)
    wait = actions.add_parser("wait")
    wait.add_argument("--nodes", type=int, required=True)
    wait.add_argument("--timeout", type=float, default=600, help="seconds")
    actions.add_parser("address").add_argument("names", nargs="*")
    settings = parser.parse_args(argv)
    try:
        if settings.action == "wait":
            wait_for_nodes(settings.nodes, settings.timeout)
        else:
            print(address_for([name for name in settings.names if name]))
    except (TimeoutError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
