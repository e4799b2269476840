"""scripts/slurm without a Slurm: what the batch script asks, and what it starts; test_cluster.py has a real one."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.stack import ROOT

PROGRAMS = {
    "scontrol": """case "$*" in
      "show hostnames "*) printf '%s\\n' $NODES ;;
      "show node "*) echo "NodeName=$3 Arch=x86_64 NodeAddr=$NODE_ADDR NodeHostName=$3 Version=22" ;;
    esac""",
    "srun": 'trap "" USR2; echo "srun $*" >>"$CALLS"; [[ "$*" != *doctor* ]] || exit "${UNFIT:-0}"',
    "sbatch": 'echo "sbatch $*" >>"$CALLS"; echo 7',
    "hostname": 'echo "fd00::12 127.0.0.1"',
    "nvidia-smi": 'for n in $(seq "${SEEN:-0}"); do echo "GPU $n: NVIDIA H100"; done',
}
SETUP = """#!/usr/bin/env bash
echo "setup $*" >>"$CALLS"
mkdir -p "$VAOPD_VENV/bin"
cat >"$VAOPD_VENV/bin/python" <<END
#!/usr/bin/env bash
case "\\$*" in
  *"cluster wait"*)
    until [[ "\\$(grep -c "cluster node" "$CALLS")" == "\\$(wc -w <<<"$NODES")" ]]; do sleep 0.05; done
    ;;
  *) exec "$PYTHON" "\\$@" ;;
esac
END
chmod +x "$VAOPD_VENV/bin/python"
"""


@pytest.fixture
def job(tmp_path):
    """Runs the batch script for a recipe that says what it is given; its result and what was called."""
    (tmp_path / "bin").mkdir()
    for name, body in PROGRAMS.items():
        program = tmp_path / "bin" / name
        program.write_text(f"#!/usr/bin/env bash\n{body}\n")
        program.chmod(0o755)
    for folder in ("scripts/slurm", "run"):
        (tmp_path / folder).mkdir(parents=True)
    shutil.copy(ROOT / "scripts/venv.sh", tmp_path / "scripts")
    (tmp_path / "scripts/setup.sh").write_text(SETUP)
    (tmp_path / "verl_vaopd").symlink_to(ROOT / "verl_vaopd")

    def run(*arguments, recipe="recipe.sh", nodes="node1", **env):
        calls = tmp_path / "calls"
        calls.unlink(missing_ok=True)
        (tmp_path / recipe).write_text('echo "recipe $NNODES $N_GPUS_PER_NODE $RAY_ADDRESS $VAOPD_VENV" >>"$CALLS"\n')
        ended = subprocess.run(
            ["bash", ROOT / "scripts/slurm/job.sh", tmp_path, tmp_path / recipe, *arguments],
            env={
                "PATH": f"{tmp_path}/bin:/usr/bin:/bin", "CALLS": str(calls), "RUN_DIR": str(tmp_path / "run"),
                "NODES": nodes, "SLURM_JOB_ID": "12345", "SLURM_JOB_NODELIST": nodes, "SLURM_CPUS_ON_NODE": "4",
                "PYTHON": sys.executable, "NODE_ADDR": "127.0.0.1", "HOME": str(tmp_path), **env,
            },
            capture_output=True, text=True, timeout=600,
        )  # fmt: skip
        return ended, calls.read_text().splitlines() if calls.exists() else []

    return run


def ray_on(calls: list[str]) -> dict[str, str]:
    """Node -> the command that starts Ray there; the recipe does not wait for them here."""
    return {line.split("--nodelist=")[1].split()[0]: line for line in calls if "cluster node" in line}


def test_a_job_without_gpus_is_refused(job):
    ended, calls = job()
    assert ended.returncode == 2 and not calls
    assert "granted no GPUs: ask for them (--gpus-per-node=8), or set CPU_JOB=yes" in ended.stdout


@pytest.mark.parametrize("how", ["variable", "recipe", "option"])
def test_unless_it_asks_to_have_none(job, how):
    ended, calls = {
        "variable": lambda: job(CPU_JOB="yes"),
        "recipe": lambda: job(recipe="vaopd_tiny_cpu.sh"),
        "option": lambda: job("--tiny", "a=1"),
    }[how]()
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert calls[0] == "setup --cpu" and "doctor" not in "\n".join(calls)
    assert "--num-gpus=1" in ray_on(calls)["node1"] and "recipe 1 1 127.0.0.1:22345 .venv" in calls


@pytest.mark.parametrize("env", [{"SLURM_GPUS_ON_NODE": "8"}, {"SEEN": "8"}])
def test_a_job_with_gpus_takes_the_gpu_set_and_looks_at_the_nodes_first(job, env, tmp_path):
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv/.vaopd-kind").write_text("cpu 3.11\n")  # the demo's, or a dry run's
    ended, calls = job(**env)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert calls[0] == "setup --gpu"
    assert "doctor --gpu --only machine --gpus 8 " in calls[1] and calls[1].startswith("srun ")
    assert "--head" in ray_on(calls)["node1"] and "--num-gpus" not in ray_on(calls)["node1"]
    assert "recipe 1 8 127.0.0.1:22345 .venv-gpu" in calls
    ended, calls = job(UNFIT="1", **env)
    assert ended.returncode == 1 and len(calls) == 2 and "DOCTOR=no" in ended.stdout
    ended, calls = job(UNFIT="1", DOCTOR="no", **env)
    assert ended.returncode == 0 and "doctor" not in "\n".join(calls)


@pytest.mark.parametrize("env, address", [({}, "127.0.0.1"), ({"NODE_ADDRESS": "10.0.0.5"}, "10.0.0.5")])
def test_the_head_listens_where_the_other_nodes_reach_it(job, env, address):
    """The way to the second node tells; `hostname -I` begins with an IPv6. The head's address is its own."""
    ended, calls = job(nodes="node1 node2", SLURM_GPUS_ON_NODE="8", **env)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    rays = ray_on(calls)
    assert f"--node-ip-address={address} --port=22345" in rays["node1"]
    assert f"--address={address}:22345" in rays["node2"] and "--node-ip-address" not in rays["node2"]
    assert f"recipe 2 8 {address}:22345 .venv" in calls


def test_all_memory_of_a_node_is_asked_for(tmp_path, job):
    recipe = tmp_path / "recipe.sh"
    recipe.touch()
    env = {"PATH": f"{tmp_path}/bin:/usr/bin:/bin", "CALLS": str(tmp_path / "calls"), "RUN_DIR": str(tmp_path / "run")}
    submit = ["bash", ROOT / "scripts/slurm/submit.sh", recipe, "--nodes=2", "--", "a=1"]
    assert subprocess.run(submit, env=env, capture_output=True).returncode == 0
    asked = (tmp_path / "calls").read_text().split()
    assert "--mem=0" in asked and asked.index("--mem=0") < asked.index("--nodes=2")  # the user's own win


def test_the_variables_of_the_scripts_are_explained():
    shown = subprocess.run(["bash", ROOT / "scripts/slurm/submit.sh", "--help"], capture_output=True, text=True).stdout
    documented = Path(ROOT / "docs/cluster.md").read_text()
    for variable in ("RUN_DIR", "STOP_SECONDS", "RAY_NODES_SECONDS", "NODE_ADDRESS", "CPU_JOB", "DOCTOR"):
        assert variable in shown and variable in documented
