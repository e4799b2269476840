"""Every recipe composes, with the paper's settings, on a machine without a GPU, models or data."""

import os
import shlex
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from tests.stack import ROOT, run
from verl_vaopd.checks.start import check
from verl_vaopd.diagnostics.labels import ORDER, label_of
from verl_vaopd.methods import method_names
from verl_vaopd.settings.compose import compose
from verl_vaopd.study.arms import ARMS, REGIMES, ROOM, Cell, Run
from verl_vaopd.tiny.dilution.words import LENGTHS

pytestmark = pytest.mark.slow

GPU_RECIPES = {
    "vaopd_4b_2b_geo3k": ("Qwen/Qwen3-VL-4B-Instruct", "geometry3k"),
    "vaopd_8b_2b_geo3k": ("Qwen/Qwen3-VL-8B-Instruct", "geometry3k"),
    "vaopd_32b_2b_geo3k": ("Qwen/Qwen3-VL-32B-Instruct", "geometry3k"),
    "vaopd_8b_2b_virl39k": ("Qwen/Qwen3-VL-8B-Instruct", "virl39k"),
    "vaopd_30ba3b_2b_geo3k": ("Qwen/Qwen3-VL-30B-A3B-Instruct", "geometry3k"),
    "vaopd_235ba22b_8b_geo3k": ("Qwen/Qwen3-VL-235B-A22B-Instruct", "geometry3k"),
    "vaopd_7b_3b_qwen2_5_geo3k": ("Qwen/Qwen2.5-VL-7B-Instruct", "geometry3k"),
}
STUDENTS = {
    "vaopd_235ba22b_8b_geo3k": "Qwen/Qwen3-VL-8B-Instruct",
    "vaopd_7b_3b_qwen2_5_geo3k": "Qwen/Qwen2.5-VL-3B-Instruct",
}
"""Others than the paper's."""


def arguments(name: str, *overrides, **env) -> list[str]:
    """What the recipe would give to ``verl-vaopd train``."""
    shown = subprocess.run(
        ["bash", ROOT / "recipes" / f"{name}.sh", *overrides],
        env={**os.environ, "VAOPD_PRINT_ARGUMENTS": "1", **env},
        capture_output=True,
        text=True,
        check=True,
    )
    return shown.stdout.splitlines()


def composed(name: str, *overrides, **env):
    option, config_name, *rest = arguments(name, *overrides, **env)
    assert option == "--config-name"
    return compose(config_name, rest)


def flat(config) -> dict:
    """Every resolved setting by its dotted name."""

    def walk(value, name):
        if isinstance(value, dict) and value:
            return {key: leaf for k, v in value.items() for key, leaf in walk(v, f"{name}.{k}" if name else k).items()}
        return {name: value}

    return walk(OmegaConf.to_container(config, resolve=True), "")


TABLE_1 = ("base", "cot_sft", "offpolicy_kd", "opd", "grpo", "papo", "vaopd")
NAMES_OF_A_RUN = {  # each derived from the method's name
    "vaopd.output_dir",
    "trainer.default_local_dir",
    "trainer.experiment_name",
    "actor_rollout_ref.rollout.trace.experiment_name",
}


@pytest.fixture(scope="module", params=["gpu", "tiny"])
def methods(request, tmp_path_factory):
    """The config of each method's recipe, on a machine without models, data and answers."""
    nothing = str(tmp_path_factory.mktemp("nothing"))
    env = {"DATA_DIR": nothing, "VAOPD_TINY_DIR": nothing, "ANSWERS_DIR": f"{nothing}/answers"}
    options = ["--tiny"] if request.param == "tiny" else []
    plain = composed("vaopd_tiny_cpu" if options else "vaopd_8b_2b_geo3k", **env)
    return {method: composed(f"table1/{method}", *options, **env) for method in TABLE_1}, plain


BEYOND_TABLE_1 = {
    "gkd": "gkd.sh",
    "grpo_va": "grpo_va.sh",
    "self": "self_distillation.sh",
    "vaopd_mass": "dilution_study.sh",
}


def test_every_method_has_a_recipe():
    assert {path.stem for path in (ROOT / "recipes/table1").glob("*.sh")} == {*TABLE_1, "method"}
    assert {*TABLE_1, *BEYOND_TABLE_1} == set(method_names())
    assert all((ROOT / "recipes" / recipe).exists() for recipe in BEYOND_TABLE_1.values())


def test_method_recipes_differ_in_the_objective_only(methods):
    by_method, plain = methods
    reference = flat(by_method["vaopd"])
    for method, config in by_method.items():
        config = flat(config)
        assert config["vaopd.method"] == method and config.keys() == reference.keys()
        differ = {name for name in config if config[name] != reference[name]}
        answers = {"vaopd.answers"} if method in ("offpolicy_kd", "cot_sft") else set()
        assert differ <= {"vaopd.method", *answers, *NAMES_OF_A_RUN}, method
    # And they are the settings of the recipe of the paper's primary setting, or of the demo.
    assert {name for name, value in flat(plain).items() if value != reference[name]} <= {*NAMES_OF_A_RUN}


def test_method_recipes_pass_the_checks_of_a_dry_run(methods, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    for method, config in methods[0].items():
        absent = " ".join(check(config, dry_run=True))
        assert ("vaopd.teacher.path" in absent) == (method not in ("grpo", "papo")), method
        assert ("vaopd.answers" in absent) == (method in ("offpolicy_kd", "cot_sft")), method


def test_a_task_has_models_of_its_own_and_room_for_its_answers(tmp_path):
    env = {"VAOPD_CACHE": str(tmp_path), "RUN_DIR": str(tmp_path / "run")}
    plain, perimeter = (flat(composed("vaopd_tiny_cpu", **env, TASK=task)) for task in ("figures", "perimeter"))
    assert plain == flat(composed("vaopd_tiny_cpu", **env))
    assert plain["vaopd.teacher.path"] == str(tmp_path / "tiny" / "teacher")
    differ = {name: value for name, value in perimeter.items() if value != plain[name]}
    assert differ.pop("vaopd.teacher.path") == str(tmp_path / "tiny_perimeter" / "teacher")
    assert differ["data.max_response_length"] == 256 and differ["actor_rollout_ref.rollout.max_model_len"] == 512


@pytest.mark.parametrize("words", LENGTHS)
def test_dilution_has_data_and_room_for_its_words(tmp_path, words):
    env = {"VAOPD_CACHE": str(tmp_path), "RUN_DIR": str(tmp_path / "run"), "TASK": "dilution"}
    config = composed("table1/opd", "--tiny", **env, WORDS=str(words))
    tiny = f"{tmp_path}/tiny_dilution"
    models = (config.actor_rollout_ref.model.path, config.vaopd.teacher.path)
    assert models == (f"{tiny}/student", f"{tiny}/teacher")
    files = (config.data.train_files, config.data.val_files)
    assert files == (f"{tiny}/data/train_{words}.parquet", f"{tiny}/data/validation_{words}.parquet")
    assert config.data.max_response_length == words + ROOM
    assert config.actor_rollout_ref.rollout.max_model_len == config.data.max_prompt_length + words + ROOM
    if words == 160:
        assert flat(config) == flat(composed("table1/opd", "--tiny", **env))


def settings_of(line: str) -> tuple[dict[str, str], object]:
    """The variables of a line that the replication prints, and the config of its recipe under them."""
    words = shlex.split(line)
    at = words.index("bash")
    env = dict(word.split("=", 1) for word in words[:at])
    return env, composed(words[at + 1].removeprefix("recipes/").removesuffix(".sh"), *words[at + 2 :], **env)


def test_replication_has_every_method_and_experiment_of_the_report(tmp_path):
    shown = run("bash", "recipes/replicate_tiny_cpu.sh", "--dry-run", "--seeds", "1", REPLICATION_DIR=str(tmp_path))
    assert shown.returncode == 0
    found = []
    for line in shown.stdout.splitlines():
        env, config = settings_of(line)
        found.append((label_of(OmegaConf.to_container(config, resolve=True))[0], config.data.seed))
        run_dir = env["RUN_DIR"]
        assert run_dir == f"{tmp_path}/{Path(run_dir).parent.name}/seed_{config.data.seed}" and "TASK" not in env
        assert config.actor_rollout_ref.rollout.seed == config.data.seed
    assert sorted(found) == sorted((label, 1) for label in ORDER)
    assert not list(tmp_path.iterdir())


def test_staleness_is_compared_by_method_and_mode(tmp_path):
    recipe = ("bash", "recipes/replicate_tiny_cpu.sh", "--runs")
    shown = run(*recipe, "staleness", "--dry-run", "--seeds", "1", REPLICATION_DIR=str(tmp_path))
    assert shown.returncode == 0
    labels = []
    for line in shown.stdout.splitlines():
        env, config = settings_of(line)
        # as it is pasted: the task's models and lengths; 2 batches of 16 prompts ahead, of 4 answers each
        assert env["TASK"] == "perimeter" and "tiny_perimeter" in config.data.train_files
        assert config.actor_rollout_ref.rollout.max_num_seqs == (2 + 1) * config.data.train_batch_size * 4 == 192
        labels.append(label_of(OmegaConf.to_container(config, resolve=True)))
    modes = ("", ", partial rollouts 2/4", ", partial rollouts 1/2")
    assert sorted(labels) == sorted((name + mode, "method") for name in ("Standard OPD", "VA-OPD") for mode in modes)
    refused = run(*recipe, "others")
    assert refused.returncode == 2 and "--runs wants paper, staleness or dilution, got 'others'" in refused.stdout


def test_dilution_on_the_stack_is_the_studys(tmp_path):
    recipe = ("bash", "recipes/dilution_study.sh", "--stack", "--dry-run", "--seeds", "1")
    shown = run(*recipe, STUDY_DIR=str(tmp_path), VAOPD_DILUTION_DIR="/models")
    assert shown.returncode == 0 and not list(tmp_path.iterdir())
    arms, cell, sizes = {}, Cell.named("frozen-2e-5-160"), Run(Cell.named("frozen-2e-5-160"), "opd", 1)
    for line in shown.stdout.splitlines():
        env, config = settings_of(line)
        vaopd, optim, rollout = config.vaopd, config.actor_rollout_ref.actor.optim, config.actor_rollout_ref.rollout
        arms[Path(env["RUN_DIR"]).parent.name] = (vaopd.method, vaopd.score, round(vaopd.high_fraction, 4))
        assert env["RUN_DIR"].startswith(str(tmp_path)) and config.data.train_files.endswith(
            f"train_{cell.words}.parquet"
        )
        assert (config.data.seed, rollout.seed) == (1, 1) and tuple(vaopd.freeze) == REGIMES[cell.regime].freeze
        assert (config.data.train_batch_size, rollout.n) == (sizes.prompts, sizes.rollouts)
        assert (config.trainer.total_training_steps, rollout.temperature, rollout.top_p) == (sizes.updates, 1, 1)
        # as build_student: torch's own betas, a rate that stays after 3 of 30 updates
        assert (optim.lr, optim.weight_decay, optim.clip_grad, list(optim.betas)) == (cell.rate, 0, 1, [0.9, 0.999])
        assert (optim.lr_scheduler_type, optim.lr_warmup_steps_ratio) == ("constant", 0.1)
        assert (config.trainer.val_before_train, config.trainer.test_freq) == (False, -1)
    configs = {name: ARMS[name].config("m", cell.words) for name in arms}
    assert arms == {
        name: (config.method, config.score, round(config.high_fraction, 4)) for name, config in configs.items()
    }
    assert list(arms) == ["opd", "vaopd", "vaopd_distribution", "matched_distribution", "mass_distribution"]


@pytest.fixture
def replication(tmp_path):
    """The script beside recipes that only wait for SIGTERM, and save on it as a run does."""
    (tmp_path / "recipes" / "table1").mkdir(parents=True)
    for name in ("replicate_tiny_cpu.sh", "shared.sh"):
        shutil.copy(ROOT / "recipes" / name, tmp_path / "recipes")
    for name in TABLE_1:
        (tmp_path / "recipes" / "table1" / f"{name}.sh").write_text(
            """trap 'echo saved; touch "$RUN_DIR/saved"; exit 0' TERM
            mkdir -p "$RUN_DIR"
            [[ "$RUN_DIR" != *cot_sft* || -z "${COT_SFT_FAILS:-}" ]] || exit 3
            touch "$RUN_DIR/started"
            while true; do sleep 0.1; done
            """
        )
    return ["bash", str(tmp_path / "recipes" / "replicate_tiny_cpu.sh"), "--seeds", "1", "--parallel", "2"]


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_replication_that_is_stopped_saves_its_runs(replication, tmp_path, signum):
    # A background job of a shell ignores SIGINT, and a script cannot take that back.
    start = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL), "stdout": subprocess.PIPE}
    process = subprocess.Popen(replication, env={**os.environ, "REPLICATION_DIR": str(tmp_path / "runs")}, **start)
    runs = [tmp_path / "runs" / name / "seed_1" for name in ("base", "cot_sft")]
    deadline = time.monotonic() + 300
    while not all((run / "started").exists() for run in runs):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signum)
    said = process.communicate(timeout=300)[0].decode()
    assert process.returncode == {signal.SIGTERM: 0, signal.SIGINT: 130}[signum]
    assert "stopped; the same command goes on" in said
    assert all((run / "saved").exists() for run in runs)


def test_a_run_that_fails_ends_the_replication(replication, tmp_path):
    env = {**os.environ, "REPLICATION_DIR": str(tmp_path / "runs"), "COT_SFT_FAILS": "yes"}
    ended = subprocess.run(replication, env=env, capture_output=True, text=True, timeout=600)
    assert ended.returncode == 1 and "a run ended with status 3" in ended.stdout


@pytest.mark.parametrize("name", GPU_RECIPES)
def test_gpu_recipe_has_the_papers_settings(name, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    config = composed(name, DATA_DIR=str(tmp_path / "data"))
    teacher, dataset = GPU_RECIPES[name]
    assert len(check(config, dry_run=True)) == 4  # two models and two files are not here; all else is consistent

    actor, rollout, data, vaopd = (
        config.actor_rollout_ref.actor,
        config.actor_rollout_ref.rollout,
        config.data,
        config.vaopd,
    )
    student = STUDENTS.get(name, "Qwen/Qwen3-VL-2B-Instruct")
    assert config.actor_rollout_ref.model.path == student and vaopd.teacher.path == teacher
    assert data.train_files == str(tmp_path / "data" / dataset / "train.parquet")
    assert data.val_files == str(tmp_path / "data" / dataset / "validation.parquet")
    assert (rollout.n, rollout.temperature, rollout.top_p, data.max_response_length) == (4, 0.7, 0.95, 4096)
    assert (data.max_prompt_length, data.truncation, data.filter_overlong_prompts) == (8192, "error", False)
    assert dict(data.mm_processor_kwargs) == {"min_pixels": 262144, "max_pixels": 4194304}
    assert rollout.engine_kwargs.vllm.mm_processor_kwargs == data.mm_processor_kwargs
    optim = actor.optim
    assert (optim.lr, list(optim.betas), optim.weight_decay, optim.clip_grad) == (1e-6, [0.9, 0.95], 0.1, 1.0)
    assert (optim.lr_scheduler_type, optim.lr_warmup_steps_ratio) == ("cosine", 0.05)
    assert actor.fsdp_config.mixed_precision.param_dtype == vaopd.teacher.dtype == "bf16"
    assert (data.train_batch_size, actor.ppo_mini_batch_size, config.trainer.total_epochs) == (16, 16, 5)
    assert (vaopd.degradation_ratio, vaopd.temperature, vaopd.eps) == (0.10, 1.0, 1e-6)
    assert (vaopd.method, vaopd.high_fraction, vaopd.high_weight) == ("vaopd", 0.2, 0.5)
    assert config.trainer.save_freq == config.trainer.test_freq  # the best checkpoint is chosen by validation,
    held_out = rollout.val_kwargs  # which is avg@8
    assert (held_out.n, held_out.temperature, held_out.top_p, held_out.do_sample) == (8, 1.0, 1.0, True)
    nodes = 2 if "235b" in name else 1
    assert (config.trainer.nnodes, config.trainer.n_gpus_per_node, config.trainer.resume_mode) == (nodes, 8, "auto")
    assert config.trainer.experiment_name == name and Path(vaopd.output_dir).name == name


def test_overrides_and_variables_reach_the_config():
    config = composed("vaopd_8b_2b_geo3k", "vaopd.method=opd", NNODES="2", N_GPUS_PER_NODE="4", RUN_DIR="/runs/a")
    assert (config.vaopd.method, config.trainer.nnodes, config.trainer.n_gpus_per_node) == ("opd", 2, 4)
    assert config.vaopd.output_dir == "/runs/a"
    tiny = composed("vaopd_tiny_cpu", "vaopd.high_weight=0.4", NNODES="2")
    assert (tiny.vaopd.high_weight, tiny.trainer.nnodes, tiny.trainer.device) == (0.4, 2, "cpu")


def test_dry_run_shows_the_commands_and_the_config_and_runs_nothing(tmp_path):
    result = run(
        *("bash", "recipes/vaopd_32b_2b_geo3k.sh", "--dry-run", "vaopd.high_weight=0.4"),
        RUN_DIR=str(tmp_path / "run"),
        DATA_DIR=str(tmp_path / "data"),
        HF_HUB_OFFLINE="1",
    )
    assert result.returncode == 0, result.stdout
    for shown in (
        "verl-vaopd data geometry3k --output",
        "hf download Qwen/Qwen3-VL-32B-Instruct",
        "verl-vaopd train --config-name vaopd_trainer",
        "high_weight: 0.4",
        "settings are consistent",
        "not here yet, so not checked: vaopd.teacher.path: Qwen/Qwen3-VL-32B-Instruct",
        "33.4 B to 2.1 B parameters, 8 x A100-80GB SXM on 1 node",
        "It fits.",
    ):
        assert shown in result.stdout
    assert not list(tmp_path.iterdir())


def test_a_wrong_setting_of_a_recipe_is_refused(tmp_path):
    config = composed("vaopd_8b_2b_geo3k", "vaopd.teacher.max_token_len_per_gpu=20000")
    with pytest.raises(ValueError, match="vaopd.teacher.max_token_len_per_gpu=20000: must be 24576 or more"):
        check(config, dry_run=True)
    with pytest.raises(ValueError, match="data.mm_processor_kwargs"):
        check(composed("vaopd_8b_2b_geo3k", "data.mm_processor_kwargs.max_pixels=1000"), dry_run=True)
