"""The builder without Docker leaves nothing of this machine in an image's folder."""

import os
import runpy
import subprocess

import pytest

from tests.stack import ROOT


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts are root's")
def test_devices_are_seen_by_a_step_alone(tmp_path):
    """A build that is killed may be removed with its folder: no device of this machine is in it."""
    for name in ("proc", "dev"):
        (tmp_path / name).mkdir()
    with_devices = runpy.run_path(str(ROOT / "docker" / "build_without_docker.py"))["with_devices"]
    look = ["bash", "-c", f"ls {tmp_path}/dev/null && touch {tmp_path}/seen && kill -KILL $$"]
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode:
        pytest.skip("this machine has no mount namespaces")
    assert subprocess.run([*with_devices(tmp_path), *look], capture_output=True).returncode == -9
    assert (tmp_path / "seen").exists()
    assert not list((tmp_path / "dev").iterdir()) and not list((tmp_path / "proc").iterdir())
