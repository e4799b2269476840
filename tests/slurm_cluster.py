"""A real Slurm cluster on this machine: munged, slurmctld and one slurmd per node, all on loopback."""

import os
import secrets
import shutil
import socket
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "scancel", "squeue")
CONFIG = """
ClusterName=vaopd
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
ReturnToService=2
KillWait={kill_wait}
SchedulerParameters=batch_sched_delay=0,sched_interval=2
MinJobAge=3600
{nodes}
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def missing_programs() -> list[str]:
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    return [name for name in PROGRAMS if not shutil.which(name, path=path)]


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


class SlurmCluster:
    """Starts on entering, ends every daemon it started on leaving. ``env`` is what its commands need."""

    def __init__(self, folder: Path, nodes: int = 2, kill_wait: int = 300):
        self.folder, self.nodes, self.kill_wait = Path(folder), nodes, kill_wait
        self.env = {
            **os.environ,
            "SLURM_CONF": str(self.folder / "slurm.conf"),
            "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin",
        }
        self.daemons: list[subprocess.Popen] = []

    def _start(self, *command, ready, what: str) -> None:
        log = open(self.folder / f"{what}.out", "w")
        self.daemons.append(
            subprocess.Popen([*map(str, command)], env=self.env, stdout=log, stderr=log, start_new_session=True)
        )
        deadline = time.monotonic() + 30
        while not ready():
            if self.daemons[-1].poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{what} did not start:\n{Path(log.name).read_text()}\n{self.logs()}")
            time.sleep(0.1)

    def logs(self) -> str:
        """The daemons' last words."""
        return "\n".join(f"== {path}\n{path.read_text()[-2000:]}" for path in sorted(self.folder.glob("*.log")))

    def __enter__(self) -> "SlurmCluster":
        controller, *ports = _free_ports(1 + self.nodes)
        host = socket.gethostname()
        node = "NodeName=node{} NodeHostname={} NodeAddr=127.0.0.1 Port={} CPUs=4 RealMemory=20000"
        nodes = "\n".join(node.format(index, host, port) for index, port in enumerate(ports))
        self.folder.chmod(0o755)
        (self.folder / "state").mkdir()
        for index in range(self.nodes):
            (self.folder / f"spool-node{index}").mkdir()
        (self.folder / "slurm.conf").write_text(
            CONFIG.format(folder=self.folder, host=host, controller=controller, nodes=nodes, kill_wait=self.kill_wait)
        )
        key = self.folder / "munge.key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o400)
        socket_path = self.folder / "munge.socket"
        files = [f"--{name}-file={self.folder}/munge.{name}" for name in ("key", "pid", "log", "seed")]
        self._start(
            *("munged", "--foreground", "--force", f"--socket={socket_path}", *files),
            ready=socket_path.exists,
            what="munged",
        )
        self._start("slurmctld", "-D", ready=lambda: self.run("scontrol", "ping").returncode == 0, what="slurmctld")
        for index in range(self.nodes):
            self._start(
                *("slurmd", "-D", "-N", f"node{index}"),
                ready=lambda index=index: self.node_states()[index] == "idle",
                what=f"slurmd-node{index}",
            )
        return self

    def __exit__(self, *_) -> None:
        self.run("scancel", "--user=root")
        for daemon in reversed(self.daemons):
            daemon.terminate()
        for daemon in self.daemons:
            try:
                daemon.wait(timeout=20)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()

    def run(self, *command, **env) -> subprocess.CompletedProcess:
        """A command of Slurm's, to its end."""
        return subprocess.run(
            [*map(str, command)], env={**self.env, **env}, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )

    def state(self, job: str) -> str:
        """State of a job, such as RUNNING or CANCELLED."""
        shown = self.run("scontrol", "show", "job", job, "--oneliner").stdout
        return shown.split("JobState=")[1].split()[0] if "JobState=" in shown else shown

    def node_states(self) -> list[str]:
        """State of each node, such as idle, mixed or completing."""
        return self.run("sinfo", "--Node", "--noheader", "--format=%T").stdout.split()
