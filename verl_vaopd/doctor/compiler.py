"""A C compiler and Python's headers: Triton compiles its launcher with them when the first kernel runs."""

import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

from verl_vaopd.doctor.finding import Finding

PACKAGES = {
    "debian": "apt-get install gcc libc6-dev python{version}-dev",
    "rhel": "dnf install gcc glibc-devel python{version}-devel",
    "fedora": "dnf install gcc glibc-devel python{version}-devel",
    "suse": "zypper install gcc glibc-devel python{short}-devel",
    "arch": "pacman -S gcc python",
    "alpine": "none: the wheels need glibc, which Alpine does not have",
}
LAUNCHER = "#include <stdlib.h>\n#include <Python.h>\nint main_of_launcher(void) { return 0; }\n"


def packages() -> str:
    """The command that installs what is needed, by this system's /etc/os-release."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        release = {}
    names = [release.get("ID", ""), *release.get("ID_LIKE", "").split()]
    known = next((PACKAGES[name] for name in names if name in PACKAGES), None)
    if known is None:
        known = " or ".join(PACKAGES[name] for name in ("debian", "rhel"))
    return known.format(version=version, short=version.replace(".", ""))


def find_compiler() -> str | None:
    """As Triton looks for it (``triton/runtime/build.py``): CC, gcc, clang."""
    named = os.environ.get("CC")
    return shutil.which(named) if named else shutil.which("gcc") or shutil.which("clang")


def compiler() -> Finding:
    """Compiles what Triton's launcher includes."""
    name, found = "compiler", find_compiler()
    if not found:
        asked = os.environ.get("CC")
        seen = f"CC={asked} is not on PATH" if asked else "no gcc or clang on PATH"
        return Finding(name, f"{seen}: Triton compiles its launcher", packages())
    headers = sysconfig.get_paths()["include"]
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "launcher.c"
        source.write_text(LAUNCHER)
        command = [found, "-shared", "-fPIC", f"-I{headers}", str(source), "-o", f"{folder}/launcher.so"]
        ended = subprocess.run(command, capture_output=True, text=True)
    if ended.returncode == 0:
        return Finding(name, f"{found}, headers of Python in {headers}")
    missing = "Python.h" if "Python.h" in ended.stderr else None
    said = f"no Python.h in {headers}" if missing else (ended.stderr.strip().splitlines() or ["no word"])[0]
    return Finding(name, f"{found}: {said}", packages())
