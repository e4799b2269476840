"""Every recipe's dry run, as its user types it, ends with 0, starts nothing and leaves nothing."""

import os
import shlex
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.stack import ROOT, run
from tests.warm_commands import environment

pytestmark = pytest.mark.slow

RECIPES = sorted(path for path in (ROOT / "recipes").rglob("*.sh") if path.read_text().startswith("#!"))
WITHOUT_OVERRIDES = ("dilution_study.sh",)  # no run of the stack
PLAIN = ("dilution_study.sh", "vaopd_tiny_cpu.sh", "vaopd_8b_2b_geo3k.sh", "cot_sft.sh")  # with no option, too
CALLS = [(path.relative_to(ROOT),) for path in RECIPES if path.name in PLAIN]
CALLS += [
    (path.relative_to(ROOT), "data.seed=7", "--restarts", "2") for path in RECIPES if path.name not in WITHOUT_OVERRIDES
]
CALLS += [
    (path, "--tiny", *options) for path, *options in CALLS if options and "/method.sh" in (ROOT / path).read_text()
]
ODD = "high_weight=0.4, (a) {b} [c] it's 5 % #1\\"  # what has a meaning in hydra's grammar, or a shell's


@pytest.fixture(scope="module")
def warm(tmp_path_factory):
    with environment(tmp_path_factory.mktemp("warm") / "venv") as folder:
        yield {"VAOPD_VENV": str(folder), "HF_HUB_OFFLINE": "1"}


def test_there_are_all_recipes():
    assert len(RECIPES) >= 7 + 2 + 7 + 2  # on GPUs; tiny; of Table 1; beyond it


@pytest.fixture(scope="module")
def dry_runs(warm, tmp_path_factory):
    """All of them, two at a time: each call's result, and the folder that it was to leave empty."""
    names = ("RUN_DIR", "DATA_DIR", "VAOPD_TINY_DIR", "REPLICATION_DIR", "STUDY_DIR")

    def dry_run(call, folder):
        variables = {name: str(folder / name) for name in names}
        return run("bash", call[0], "--dry-run", *call[1:], **warm, **variables), folder

    with ThreadPoolExecutor(2) as two:
        started = {call: two.submit(dry_run, call, tmp_path_factory.mktemp("run")) for call in CALLS}
        yield {call: each.result() for call, each in started.items()}


@pytest.mark.parametrize("call", CALLS, ids=lambda call: shlex.join(map(str, call)))
def test_a_dry_run_ends_with_0(call, dry_runs):
    shown, folder = dry_runs[call]
    assert shown.returncode == 0, shown.stdout
    if call[0].name not in ("replicate_tiny_cpu.sh", *WITHOUT_OVERRIDES):
        assert "settings are consistent" in shown.stdout
        assert ("\n  seed: 7\n" in shown.stdout) == ("data.seed=7" in call)
    if call[0].name.endswith(("geo3k.sh", "virl39k.sh")):
        assert "It fits." in shown.stdout
    assert not list(folder.iterdir())


@pytest.mark.parametrize(
    "call", [("vaopd_8b_2b_virl39k",), ("table1/offpolicy_kd",), ("table1/offpolicy_kd", "--tiny")]
)
def test_folders_may_have_any_name(call, warm, tmp_path):
    folders = {
        name: str(tmp_path / f"{name} {ODD}") for name in ("RUN_DIR", "DATA_DIR", "VAOPD_TINY_DIR", "ANSWERS_DIR")
    }
    shown = run("bash", f"recipes/{call[0]}.sh", "--dry-run", *call[1:], **warm, **folders)
    assert shown.returncode == 0, shown.stdout
    printed = shown.stdout.replace("\n    ", " ").replace("''", "'")  # as YAML wraps and quotes it
    assert f"output_dir: {folders['RUN_DIR']}".split(" {")[0] in printed.replace("output_dir: '", "output_dir: ")


def test_a_reference_in_a_folders_name_is_refused(warm, tmp_path):
    shown = run("bash", "recipes/vaopd_8b_2b_geo3k.sh", "--dry-run", **warm, RUN_DIR=f"{tmp_path}/${{a}}")
    assert shown.returncode == 2 and f"RUN_DIR={tmp_path}/${{a}}" in shown.stdout


def test_a_set_for_a_dry_run_is_no_set_for_a_run(warm):
    """The CPU set serves a dry run; a GPU recipe itself refuses it by name, before it fetches anything."""
    env = {**os.environ, **warm, "DOCTOR": "no"}
    shown = run("bash", "recipes/vaopd_8b_2b_geo3k.sh", **env)
    assert shown.returncode == 1 and "holds the cpu set" in shown.stdout


def test_method_recipe_dry_runs(warm, tmp_path):
    env = {**warm, "RUN_DIR": str(tmp_path / "run"), "HF_HUB_OFFLINE": "1", "VAOPD_TINY_DIR": str(tmp_path / "tiny")}
    tiny = run("bash", "recipes/table1/papo.sh", "--tiny", "--dry-run", "vaopd.papo.mask_ratio=0.5", **env)
    assert tiny.returncode == 0, tiny.stdout
    for shown in ("method: papo", "mask_ratio: 0.5", "experiment_name: table1_tiny_papo", "settings are consistent"):
        assert shown in tiny.stdout
    gpu = run("bash", "recipes/table1/offpolicy_kd.sh", "--dry-run", DATA_DIR=str(tmp_path / "data"), **env)
    assert gpu.returncode == 0, gpu.stdout
    for shown in ("verl-vaopd answers", "not here yet, so not checked: vaopd.answers", "plan:", "It fits."):
        assert shown in gpu.stdout
    assert not list(tmp_path.iterdir())
