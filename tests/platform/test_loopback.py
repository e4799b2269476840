"""Where ranks meet nobody else can; what is left in the folder of temporary files is the user's own."""

import os
import stat
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import pytest

from verl_vaopd.platform import loopback

MEET = """
import socket, sys
import psutil, torch, torch.distributed
from verl_vaopd.platform.loopback import register_bound_rendezvous
register_bound_rendezvous()
torch.distributed.init_process_group("gloo", init_method=sys.argv[1])
number = torch.ones(1) * torch.distributed.get_rank()
torch.distributed.all_reduce(number)
here = {each.laddr.ip for each in psutil.Process().net_connections("tcp") if each.status == "LISTEN"}
print(number.item(), sorted(here))
torch.distributed.barrier()
"""


@pytest.fixture
def folder(monkeypatch):
    """In a folder of temporary files whose path leaves room for a socket's."""
    with tempfile.TemporaryDirectory(prefix="va", dir="/tmp") as short:
        monkeypatch.setattr(tempfile, "tempdir", short)
        yield Path(short) / f"verl_vaopd-{os.getuid()}"


def test_ranks_meet_and_listen_at_loopback_alone():
    """torch's own env:// and tcp:// would list '::' for rank 0."""
    env = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29731", "WORLD_SIZE": "2", **loopback.LOOPBACK}
    command = [sys.executable, "-c", MEET, "bound://"]
    ranks = [
        subprocess.Popen(command, env={**env, "RANK": str(rank)}, stdout=subprocess.PIPE, text=True)
        for rank in (1, 0)  # the one that does not listen may come first
    ]
    assert [rank.communicate(timeout=600)[0] for rank in ranks] == ["1.0 ['127.0.0.1']\n"] * 2


def test_the_folder_is_the_users_alone(folder):
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    assert loopback.private_folder() == str(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_folder_that_somebody_put_there_is_refused(folder, tmp_path):
    (tmp_path / "theirs").mkdir()
    folder.symlink_to(tmp_path / "theirs")
    with pytest.raises(ValueError, match=f"{folder} is not a folder of this user's: have it removed"):
        loopback.private_folder()


def test_two_runs_on_a_machine_have_a_weight_socket_each(folder, monkeypatch):
    """Each has a Ray of its own, where its job is 01000000."""
    addresses = set()
    for raylet in ("11", "12"):
        monkeypatch.setenv("RAY_RAYLET_PID", raylet)
        addresses.add(loopback.private_socket("ipc:///tmp/rl-colocate-zmq-01000000-replica-0-rank-0.sock"))
    names = {f"ipc://{folder}/{raylet}-rl-colocate-zmq-01000000-replica-0-rank-0.sock" for raylet in (11, 12)}
    assert addresses == names


@pytest.mark.parametrize("module", ["vllm_rollout", "utils"])
def test_both_ends_of_verls_socket_are_where_the_replacement_expects_them(module):
    verl = Path(find_spec("verl").submodule_search_locations[0])
    source = (verl / "workers/rollout/vllm_rollout" / f"{module}.py").read_text()
    assert source.count('f"ipc:///tmp/rl-colocate-zmq-{job_id}-replica-') == source.count("ipc:///tmp/") == 1
