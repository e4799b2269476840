"""What a recipe calls, in which order, with which arguments; the commands themselves are stand-ins that say so."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.stack import ROOT

RECIPES = sorted(path.relative_to(ROOT) for path in (ROOT / "recipes").rglob("*.sh"))
SHARED = {"shared.sh"}  # it has no user
SOURCED = {*SHARED, "gpu.sh", "method.sh"}
MANY_RUNS = {"replicate_tiny_cpu.sh", "dilution_study.sh"}
SETUP = """#!/usr/bin/env bash
echo "setup $*" >>"$CALLS"
[[ "$*" != *--check* ]] || exit "${UNFIT:-0}"
source scripts/venv.sh
variant=cpu
for argument in "$@"; do case "$argument" in --cpu | --gpu) variant="${argument#--}" ;; esac; done
venv="${VAOPD_VENV:-.venv}"
if [[ -f "$venv/.vaopd-kind" ]]; then exit 0; fi
mkdir -p "$venv/bin" && echo "$variant 3.11" >"$venv/.vaopd-kind"
for name in verl-vaopd hf; do
  printf '#!/usr/bin/env bash\\necho "%s $*" >>"$CALLS"\\n' "$name" >"$venv/bin/$name"
  chmod +x "$venv/bin/$name"
done
"""


@pytest.fixture
def project(tmp_path):
    """The recipes beside a set-up that makes environments of stand-ins."""
    shutil.copytree(ROOT / "recipes", tmp_path / "recipes")
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts/venv.sh", tmp_path / "scripts")
    (tmp_path / "scripts/setup.sh").write_text(SETUP)
    return tmp_path


def call(project: Path, recipe: str, *arguments, **env) -> tuple[subprocess.CompletedProcess, list[str]]:
    """The recipe's end, and the lines of what it called."""
    calls = project / "calls"
    calls.unlink(missing_ok=True)
    ended = subprocess.run(
        ["bash", project / "recipes" / f"{recipe}.sh", *arguments],
        env={"PATH": "/usr/bin:/bin", "HOME": str(project), "CALLS": str(calls), **env},
        capture_output=True,
        text=True,
    )
    return ended, calls.read_text().splitlines() if calls.exists() else []


@pytest.mark.parametrize("option", ["--help", "-h"])
@pytest.mark.parametrize("recipe", RECIPES, ids=str)
def test_help_prints_the_header_and_does_nothing(project, recipe, option):
    before = sorted(project.rglob("*"))
    ended, calls = call(project, str(recipe.relative_to("recipes").with_suffix("")), "a=1", option)
    assert ended.returncode == 0 and not calls and sorted(project.rglob("*")) == before
    if recipe.name in SHARED:
        return
    lines = (ROOT / recipe).read_text().splitlines()
    header = [line[2:] for line in lines[1 : next(n for n, line in enumerate(lines) if n and line[:1] != "#")]]
    assert ended.stdout.splitlines()[: len(header)] == header and len(header) > 3
    if recipe.name != "dilution_study.sh":  # whose runs are no recipe's
        assert "hydra overrides" in ended.stdout  # where the header is not the recipe's own, too
    assert not ended.stderr


@pytest.mark.parametrize("recipe", RECIPES, ids=str)
def test_a_recipe_that_is_asked_for_its_arguments_runs_nothing(project, recipe):
    before = sorted(project.rglob("*"))
    name = str(recipe.relative_to("recipes").with_suffix(""))
    ended, calls = call(project, name, VAOPD_PRINT_ARGUMENTS="1")
    assert not calls and sorted(project.rglob("*")) == before
    if recipe.name in MANY_RUNS:
        assert ended.returncode == 2 and not ended.stdout and "many runs" in ended.stderr
    else:
        assert ended.returncode == 0, ended.stderr
        assert ended.stdout.splitlines()[:1] == ([] if recipe.name in SOURCED else ["--config-name"])


def test_a_gpu_recipe_looks_at_the_machine_before_it_fetches_anything(project):
    ended, calls = call(project, "vaopd_32b_2b_geo3k", "vaopd.high_weight=0.4", N_GPUS_PER_NODE="4")
    assert ended.returncode == 0, ended.stderr
    student, teacher = "Qwen/Qwen3-VL-2B-Instruct", "Qwen/Qwen3-VL-32B-Instruct"
    output = f"{project}/outputs/vaopd_32b_2b_geo3k"
    assert calls[:6] == [
        f"setup --gpu --check --gpus 4 --gpu-memory 80 --models {student} {teacher} --output {output}",
        "setup --gpu",
        "verl-vaopd doctor --gpu --only environment",
        f"verl-vaopd data geometry3k --output {project}/data/geometry3k",
        f"hf download {student}",
        f"hf download {teacher}",
    ]
    assert len(calls) == 7 and calls[6].startswith("verl-vaopd train --config-name vaopd_trainer")
    assert calls[6].endswith(" vaopd.high_weight=0.4")


def test_an_unfit_machine_stops_a_gpu_recipe_there(project):
    ended, calls = call(project, "vaopd_8b_2b_geo3k", UNFIT="1")
    assert ended.returncode == 1 and "DOCTOR=no" in ended.stderr
    assert len(calls) == 1 and "--check" in calls[0] and not (project / ".venv").exists()
    ended, calls = call(project, "vaopd_8b_2b_geo3k", UNFIT="1", DOCTOR="no")
    assert ended.returncode == 0 and not [line for line in calls if "doctor" in line or "--check" in line]
    ended, calls = call(project, "vaopd_8b_2b_geo3k", UNFIT="1", RAY_ADDRESS="10.0.0.1:6379")  # its nodes are elsewhere
    assert ended.returncode == 0 and not [line for line in calls if "doctor" in line or "--check" in line]


def test_the_tiny_gpu_recipe_looks_at_the_machine_too(project):
    ended, calls = call(project, "vaopd_tiny_gpu")
    assert ended.returncode == 0, ended.stderr
    assert [line.split(" --models")[0].split(" --output")[0].split(" --config")[0] for line in calls] == [
        "setup --gpu --check --gpus 1",
        "setup --gpu",
        "verl-vaopd doctor --gpu --only environment",
        "verl-vaopd tiny",
        "verl-vaopd train",
    ]
    ended, calls = call(project, "vaopd_tiny_gpu", UNFIT="1")
    assert ended.returncode == 1 and len(calls) == 1


def test_a_recipe_fetches_the_models_that_its_overrides_name(project):
    models = ["actor_rollout_ref.model.path='/models/a=b'", "vaopd.teacher.path=Qwen/Other-4B"]
    (project / "local").mkdir()
    _, calls = call(project, "vaopd_8b_2b_geo3k", *models)
    assert [line for line in calls if line.startswith("hf")] == ["hf download /models/a=b", "hf download Qwen/Other-4B"]
    _, calls = call(project, "vaopd_8b_2b_geo3k", f"actor_rollout_ref.model.path={project}/local")
    assert [line for line in calls if line.startswith("hf")] == ["hf download Qwen/Qwen3-VL-8B-Instruct"]


def test_a_student_that_teaches_itself_is_fetched_once(project):
    for given, model in ((), "Qwen/Qwen3-VL-2B-Instruct"), (["actor_rollout_ref.model.path=Qwen/O-4B"], "Qwen/O-4B"):
        ended, calls = call(project, "self_distillation", *given)
        assert ended.returncode == 0, ended.stderr
        assert [line for line in calls if line.startswith("hf")] == [f"hf download {model}"]
        assert f"--models {model} --output" in calls[0]


@pytest.mark.parametrize(
    "recipe, options",
    [
        ("vaopd_8b_2b_geo3k", ["--restarts", "3"]),
        ("vaopd_tiny_cpu", ["--restarts=3"]),
        ("table1/offpolicy_kd", ["--restarts", "3"]),
        ("table1/cot_sft", ["--tiny", "--restarts", "3"]),
    ],
)
def test_each_command_gets_what_is_its_own(project, recipe, options):
    ended, calls = call(project, recipe, *options, "data.seed=7")
    assert ended.returncode == 0, ended.stderr
    train, answers = (
        [line for line in calls if line.startswith(f"verl-vaopd {name} ")] for name in ("train", "answers")
    )
    assert len(train) == 1 and train[0].startswith("verl-vaopd train --restarts 3 --config-name ")
    assert len(answers) == recipe.startswith("table1/")
    for line in (*train, *answers):
        assert line.endswith(" data.seed=7") and line.count("--") == (2 if line in train else 1)
    ended, calls = call(project, recipe, "--dry-run", *options, "data.seed=7")
    assert ended.returncode == 0, ended.stderr
    run_anyway = [line for line in calls if line.startswith("verl-vaopd") and not line.startswith("verl-vaopd plan")]
    assert len(run_anyway) == 1 and run_anyway[0].startswith("verl-vaopd train --dry-run --config-name ")
    assert all("restarts" not in line for line in calls)


@pytest.mark.parametrize(
    "arguments, says",
    [
        (["--restarts"], "--restarts wants a whole number, 0 or more, got ''"),
        (["--restarts", "often"], "got 'often'"),
        (["--restarts=-1"], "got '-1'"),
        (["--restart", "1"], "unknown option --restart"),
        (["--config-name=tiny_cpu"], "unknown option --config-name=tiny_cpu"),
    ],
)
@pytest.mark.parametrize("recipe", ["vaopd_8b_2b_geo3k", "vaopd_tiny_cpu", "table1/opd"])
def test_a_wrong_option_is_refused_before_anything_is_done(project, recipe, arguments, says):
    ended, calls = call(project, recipe, *arguments)
    assert ended.returncode == 2 and says in ended.stderr and not calls


@pytest.mark.parametrize(
    "arguments, env, says",
    [
        (["--seed", "3"], {}, "unknown option --seed"),
        (["--dry-run", "--restarts", "x"], {}, "--restarts wants a whole number, 0 or more, got 'x'"),
        (["--dry-run", "--restarts=-1"], {}, "--restarts wants a whole number, 0 or more, got '-1'"),
        (["--dry-run", "--restarts"], {}, "--restarts wants a whole number, 0 or more, got ''"),
        (["--dry-run"], {"TASK": "area"}, "TASK=area: there are figures, perimeter and dilution"),
        (
            ["--dry-run", "--runs", "staleness"],
            {"TASK": "area"},
            "TASK=area: there are figures, perimeter and dilution",
        ),
        (["--dry-run"], {"WORDS": "40"}, "WORDS=40: TASK=dilution alone has words"),
        (["--dry-run", "--runs", "dilution"], {"WORDS": "41"}, "WORDS=41: there are 0, 40 and 160"),
        (["--dry-run", "--runs", "dilution"], {"TASK": "figures"}, "TASK=figures: --runs dilution is of TASK=dilution"),
    ],
)
def test_a_wrong_option_of_the_replication_is_refused(project, arguments, env, says):
    ended, calls = call(project, "replicate_tiny_cpu", *arguments, **env)
    assert ended.returncode == 2 and says in ended.stderr and not ended.stdout and not calls


@pytest.mark.parametrize("restarts", [["--restarts", "3"], ["--restarts=3"]])
def test_restarts_of_the_replication_are_those_of_each_run(project, restarts):
    ended, _ = call(project, "replicate_tiny_cpu", "--dry-run", "--seeds", "1", *restarts)
    lines = ended.stdout.splitlines()
    assert len(lines) == 13 and all(line.endswith(" --restarts 3") for line in lines)


@pytest.mark.parametrize(
    "env, says",
    [
        ({"TASK": "area"}, "TASK=area: there are figures, perimeter and dilution"),
        ({"TASK": "dilution", "WORDS": "1600"}, "WORDS=1600: there are 0, 40 and 160"),
        ({"TASK": "perimeter", "WORDS": "0"}, "WORDS=0: TASK=dilution alone has words"),
    ],
)
def test_a_task_that_is_none_is_refused(project, env, says):
    for recipe, options in (("vaopd_tiny_cpu", []), ("table1/opd", ["--tiny"])):
        ended, calls = call(project, recipe, *options, **env)
        assert ended.returncode == 2 and says in ended.stderr and not calls


def test_the_students_of_dilution_on_the_stack_are_measured_at_the_end(project):
    """Runs that have ended are not done again; the models are those that they began with."""
    (project / "venv/bin").mkdir(parents=True)
    (project / "venv/bin/python").write_text('#!/bin/sh\necho "python $*" >>"$CALLS"\n')
    (project / "venv/bin/python").chmod(0o755)
    arms = ("opd", "vaopd", "vaopd_distribution", "matched_distribution", "mass_distribution")
    runs = [project / "runs" / arm / "seed_1" for arm in arms]
    for run in runs:
        run.mkdir(parents=True)
        (run / "summary.json").write_text("{}")
    env = {"STUDY_DIR": str(project / "runs"), "VAOPD_VENV": str(project / "venv")}
    ended, calls = call(project, "dilution_study", "--stack", "--seeds", "1", VAOPD_DILUTION_DIR="/models", **env)
    assert ended.returncode == 0, ended.stderr
    students = " ".join(f"{run}/student" for run in runs)
    assert calls == [f"python -m verl_vaopd.study.measure --models /models --words 160 {students}"]


@pytest.mark.parametrize("stack", [[], ["--stack"]], ids=["study", "stack"])
@pytest.mark.parametrize(
    "arguments, says",
    [
        (["--output", "X"], "dilution_study: --output: set STUDY_DIR=DIR instead"),
        (["--seeds", "1", "--output=X"], "dilution_study: --output: set STUDY_DIR=DIR instead"),
        (["--models", "X"], "dilution_study: --models: set VAOPD_DILUTION_DIR=DIR instead"),
        (["--models=X"], "dilution_study: --models: set VAOPD_DILUTION_DIR=DIR instead"),
    ],
)
def test_folders_of_the_study_are_variables(project, stack, arguments, says):
    """The report is of STUDY_DIR: runs that went elsewhere would not be in it."""
    ended, calls = call(project, "dilution_study", *stack, *arguments)
    assert ended.returncode == 2 and ended.stderr.startswith(says) and ended.stderr.count("\n") == 1 and not calls


def test_options_of_the_study_are_looked_at_before_models_are_made(project):
    python = project / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\necho "python $*" >>"$CALLS"\necho listed\n[ "$UNFIT" != 1 ] || exit 2\n')
    python.chmod(0o755)
    (project / "study/validation/run").mkdir(parents=True)
    (project / "study/validation/run/summary.json").write_text("{}")
    study, options = str(project / "study"), ["--cells", "frozen-2e-5-0"]
    models = f"{project}/.cache/tiny_dilution"
    command = f"python -m verl_vaopd.study --models {models} --output {study} --cells frozen-2e-5-0"
    ended, calls = call(project, "dilution_study", *options, STUDY_DIR=study, UNFIT="1")
    assert ended.returncode == 2 and not ended.stdout and calls == ["setup --cpu", f"{command} --dry-run"]
    ended, calls = call(project, "dilution_study", *options, STUDY_DIR=study)
    assert ended.returncode == 0 and ended.stdout == "listed\n"  # by the study itself, not by the look at its options
    assert calls == [
        "setup --cpu",
        f"{command} --dry-run",
        f"verl-vaopd tiny --task dilution --output {models}",
        command,
        f"verl-vaopd report {study}/validation/run --output {study}/report",
    ]
    ended, calls = call(project, "dilution_study", *options, "--dry-run", STUDY_DIR=study)
    assert ended.returncode == 0 and ended.stdout == "listed\n" and calls == ["setup --cpu", f"{command} --dry-run"]


def test_the_study_is_on_the_stack_wherever_its_option_stands(project):
    first = call(project, "dilution_study", "--stack", "--dry-run", "--seeds", "1")[0]
    last, calls = call(project, "dilution_study", "--dry-run", "--seeds", "1", "--stack")
    assert first.returncode == last.returncode == 0 and not calls
    assert first.stdout == last.stdout and len(last.stdout.splitlines()) == 5


def kinds(project: Path) -> dict[str, str]:
    """Environment -> the set it holds."""
    return {path.parent.name: path.read_text().split()[0] for path in project.glob(".venv*/.vaopd-kind")}


def test_a_dry_run_leaves_the_place_of_the_gpu_set_alone(project):
    for _ in range(2):
        assert call(project, "vaopd_8b_2b_geo3k", "--dry-run")[0].returncode == 0
        assert kinds(project) == {".venv-dry": "cpu"}
    assert call(project, "vaopd_8b_2b_geo3k")[0].returncode == 0
    assert kinds(project) == {".venv-dry": "cpu", ".venv": "gpu"}
    shutil.rmtree(project / ".venv-dry")
    assert call(project, "vaopd_8b_2b_geo3k", "--dry-run")[0].returncode == 0  # one set serves both
    assert kinds(project) == {".venv": "gpu"}


def test_the_demo_and_a_gpu_recipe_have_a_set_each(project):
    for recipe in ("vaopd_tiny_cpu", "vaopd_8b_2b_geo3k", "vaopd_tiny_cpu"):
        assert call(project, recipe)[0].returncode == 0
    assert kinds(project) == {".venv": "cpu", ".venv-gpu": "gpu"}


@pytest.mark.parametrize("variable", ["VAOPD_VENV", "VAOPD_DRY_VENV"])
def test_variables_move_the_environments(project, variable):
    elsewhere = str(project / "elsewhere")
    assert call(project, "vaopd_8b_2b_geo3k", "--dry-run", **{variable: elsewhere})[0].returncode == 0
    wanted = elsewhere if variable == "VAOPD_DRY_VENV" else str(project / ".venv-dry")
    assert (Path(wanted) / ".vaopd-kind").read_text() == "cpu 3.11\n"
    assert (project / "elsewhere").exists() == (variable == "VAOPD_DRY_VENV")
