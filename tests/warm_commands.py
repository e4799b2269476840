"""``verl-vaopd`` from a process that has imported everything: a dry run takes a second instead of fifteen.

A recipe is run as its user runs it; only the program that it calls is this one, in an environment that setup.sh finds
ready. ``environment(folder)`` makes it; a command is a fork of its server.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

from tests.stack import ROOT

CLIENT = """#!{python} -IS
import json, os, socket, sys
os.environ["VAOPD_SUPERVISED"] = "1"
with socket.socket(socket.AF_UNIX) as server:
    server.connect({path!r})
    asked = json.dumps([sys.argv[1:], dict(os.environ), os.getcwd()]).encode()
    socket.send_fds(server, [len(asked).to_bytes(4, "big")], [1, 2])
    server.sendall(asked)
    sys.exit(server.recv(1)[0])
"""


@contextlib.contextmanager
def environment(folder: Path) -> Iterator[Path]:
    """A folder for VAOPD_VENV whose ``verl-vaopd`` is the warm one."""
    ready = {**os.environ, "VAOPD_VENV": sys.prefix}
    subprocess.run(["bash", "scripts/setup.sh", "--dev"], cwd=ROOT, env=ready, check=True)  # else it would be no copy
    path = str(folder / "socket")
    (folder / "bin").mkdir(parents=True)
    for file in Path(sys.prefix).glob(".vaopd-*"):
        shutil.copy(file, folder)
    python = folder / "bin/python"  # no link to this environment's: it would be one of no environment
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    client = folder / "bin/verl-vaopd"
    client.write_text(CLIENT.format(python=sys.executable, path=path))
    client.chmod(0o755)
    server = subprocess.Popen([sys.executable, "-m", "tests.warm_commands", path], cwd=ROOT, stdout=subprocess.PIPE)
    try:
        assert server.stdout.read(1) == b"."  # it listens
        yield folder
    finally:
        server.terminate()
        server.wait()


def answer(asked: socket.socket) -> None:
    """In a fork: run the command, tell its exit status, end."""
    from verl_vaopd.cli import main

    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    size, fds, _, _ = socket.recv_fds(asked, 4, 2)
    text = b""
    while len(text) < int.from_bytes(size, "big"):
        text += asked.recv(1 << 16)
    arguments, variables, cwd = json.loads(text)
    status = 1
    try:
        os.dup2(fds[0], 1)
        os.dup2(fds[1], 2)
        os.environ.clear()
        os.environ.update(variables)
        os.chdir(cwd)
        status = main(arguments) or 0
    except SystemExit as end:
        status = end.code or 0
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    asked.sendall(bytes([status]))
    os._exit(0)


def serve(path: str) -> None:
    ready = os.dup(1)
    os.dup2(2, 1)  # what imports print
    import verl.trainer.main_ppo  # noqa: F401
    import verl.utils.config  # noqa: F401

    from verl_vaopd.checks.start import check_settings
    from verl_vaopd.launch.plan import main as plan  # noqa: F401
    from verl_vaopd.settings.compose import compose

    needed = ("actor_rollout_ref.model.path=a", "vaopd.teacher.path=b", "data.train_files=c", "data.val_files=d")
    check_settings(compose("vaopd_trainer", [*needed, "vaopd.output_dir=e"]))  # imports the rest
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        os.write(ready, b".")
        while True:
            asked, _ = listening.accept()
            with asked:
                if os.fork() == 0:
                    answer(asked)


if __name__ == "__main__":
    serve(sys.argv[1])
