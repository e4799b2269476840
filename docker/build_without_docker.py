"""The steps of a Dockerfile in a chroot, where there is no Docker: to see an image build after a change.

    sudo python3 docker/build_without_docker.py docker/Dockerfile.cpu /var/tmp/image [--env NAME ...] [--skip TEXT ...]

Needs root and debootstrap. Every stage gets a folder under the one that is named; the last one's path is printed. What
the base image has beyond its distribution is not there: no CUDA, Debian's Python instead of the one under /usr/local.
Of Dockerfiles it understands FROM, SHELL, USER, WORKDIR, ENV, ARG, COPY, RUN and CMD, as ours use them.
"""

import argparse
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
BASES = {  # image: distribution, its archive, packages that the image has
    "python:3.11-slim-bookworm": (
        "bookworm",
        "http://deb.debian.org/debian",
        ["ca-certificates", "python3.11", "python3.11-venv"],
    ),
    "nvidia/cuda:13.0.2-devel-ubuntu24.04": ("noble", "http://archive.ubuntu.com/ubuntu", ["ca-certificates"]),
    "nvidia/cuda:13.0.2-base-ubuntu24.04": ("noble", "http://archive.ubuntu.com/ubuntu", ["ca-certificates"]),
}


def instructions(dockerfile: Path) -> list[tuple[str, str]]:
    """(name, arguments), lines joined, comments left out."""
    lines = [line for line in dockerfile.read_text().splitlines() if not line.lstrip().startswith("#")]
    text = "\n".join(lines).replace("\\\n", " ")
    return [tuple(line.split(None, 1)) for line in text.splitlines() if line.strip()]


def with_devices(root: Path) -> list[str]:
    """What to put before a command that is to have the machine's ``/proc`` and ``/dev`` under ``root``.

    The mounts are seen by that command alone and end with it, however it ends: a folder that is removed after a build
    was killed must not hold the machine's own devices.
    """
    mounts = " && ".join(f"mount --bind /{name} {shlex.quote(str(root / name))}" for name in ("proc", "dev"))
    return ["unshare", "--mount", "--propagation", "private", "bash", "-c", f'{mounts} && exec "$@"', "bash"]


class Stage:
    """One FROM and what follows it."""

    def __init__(self, image: str, root: Path, passed: dict[str, str], bootstrap: list[str]):
        self.root, self.user, self.folder = root, "0", "/"
        self.env = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", **passed}
        suite, archive, packages = BASES[image]
        if not (root / "etc" / "os-release").exists():
            # debootstrap's script of every Ubuntu, under its oldest name: those of newer ones are links to it.
            ubuntu = "ubuntu" in archive
            script = ["/usr/share/debootstrap/scripts/gutsy"] if ubuntu else []
            bootstrap = [*bootstrap, *(["--components=main,universe"] if ubuntu else [])]
            subprocess.run(
                ["debootstrap", "--variant=minbase", *bootstrap, suite, str(root), archive, *script], check=True
            )
        for file in ("/etc/resolv.conf", "/etc/hosts", "/etc/pip.conf"):
            if Path(file).exists():
                shutil.copy(file, root / file[1:])
        for folder in filter(os.path.isdir, ("/etc/apt/apt.conf.d", "/usr/local/share/ca-certificates")):
            shutil.copytree(folder, root / folder[1:], dirs_exist_ok=True)
        self.run(f"apt-get update && apt-get install -y --no-install-recommends {' '.join(packages)}")
        if "ubuntu" in archive:  # its images have this user
            self.run("id -u 1000 >/dev/null 2>&1 || useradd --create-home --uid 1000 --shell /bin/bash ubuntu")

    def run(self, command: str) -> None:
        print(f"---- RUN {' '.join(command.split())[:200]}", flush=True)
        env = [f"{name}={value}" for name, value in self.env.items()]
        inside = f"cd {shlex.quote(self.folder)} && {command}"
        chroot = ["chroot", f"--userspec={self.user}:{self.user}", str(self.root), "env", "-i", *env]
        step = [*chroot, "DEBIAN_FRONTEND=noninteractive", "bash", "-o", "pipefail", "-ec", inside]
        subprocess.run([*with_devices(self.root), *step], check=True, stdin=subprocess.DEVNULL)

    def copy(self, arguments: str, stages: dict[str, "Stage"]) -> None:
        print(f"---- COPY {arguments}", flush=True)
        words = shlex.split(arguments)
        options = dict(word[2:].split("=", 1) for word in words if word.startswith("--"))
        *sources, target = [word for word in words if not word.startswith("--")]
        into = (self.root / self.folder[1:] / target).resolve()
        for source in sources:
            if "from" in options:
                origin = stages[options["from"]].root / source[1:]
                shutil.copytree(origin, into, symlinks=True, dirs_exist_ok=True)
                continue
            tracked = subprocess.run(
                ["git", "ls-files", "-z", source], cwd=PROJECT, check=True, capture_output=True, text=True
            ).stdout.split("\0")
            for name in filter(None, tracked):
                inside = Path(name).relative_to(source) if (PROJECT / source).is_dir() else Path(name).name
                place = into / inside if (PROJECT / source).is_dir() or target.endswith("/") else into
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(PROJECT / name, place)
        if "chown" in options:
            self.run(f"chown -R {options['chown']} {shlex.quote('/' + str(into.relative_to(self.root)))}")


def build(dockerfile: Path, folder: Path, passed: dict[str, str], skipped: list[str], bootstrap: list[str]) -> Path:
    stages: dict[str, Stage] = {}
    stage = None
    for name, arguments in instructions(dockerfile):
        if name == "FROM":
            image, _, label = re.fullmatch(r"(\S+)( AS (\S+))?", arguments).groups()
            stage = stages[label or "last"] = Stage(image, folder / (label or "last"), passed, bootstrap)
        elif name == "RUN":
            if any(text in arguments for text in skipped):
                print(f"---- left out: RUN {arguments[:100]}", flush=True)
            else:
                stage.run(arguments)
        elif name == "COPY":
            user, stage.user = stage.user, "0"
            stage.copy(arguments, stages)
            stage.user = user
        elif name == "USER":
            stage.user = arguments
            stage.env["HOME"] = "/home/vaopd"
        elif name == "WORKDIR":
            stage.folder = arguments
            (stage.root / arguments[1:]).mkdir(parents=True, exist_ok=True)
        elif name in ("ENV", "ARG"):
            for word in shlex.split(arguments):
                key, _, value = word.partition("=")
                stage.env[key] = os.path.expandvars(value.replace("$PATH", stage.env["PATH"]))
        elif name == "CMD":
            print(f"---- CMD {arguments}: not run", flush=True)
        elif name != "SHELL":
            raise ValueError(f"{dockerfile}: {name} is not understood here")
    return stage.root


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dockerfile", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--env", action="append", default=[], help="a variable of this shell's that the steps get")
    parser.add_argument("--skip", action="append", default=[], help="leave out RUN steps that hold this text")
    parser.add_argument("--bootstrap", action="append", default=[], help="an option of debootstrap's")
    given = parser.parse_args()
    if os.geteuid():
        parser.error("needs root: it makes a chroot")
    given.folder.mkdir(parents=True, exist_ok=True)
    passed = {name: os.environ[name] for name in given.env if name in os.environ}
    print(f"built: {build(given.dockerfile, given.folder.resolve(), passed, given.skip, given.bootstrap)}")
