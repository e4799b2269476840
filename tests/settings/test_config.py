"""Wrong settings and misspelt keys are refused before anything starts; every shipped YAML composes."""

import copy
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from verl_vaopd.checks.host_settings import validate_host_settings
from verl_vaopd.checks.host_values import check_host_values
from verl_vaopd.checks.start import check, check_settings
from verl_vaopd.settings.compose import compose, instantiate
from verl_vaopd.settings.config import VAOPDConfig
from verl_vaopd.settings.of_methods import GKDConfig, MassConfig, PAPOConfig
from verl_vaopd.settings.teacher import TeacherConfig

REQUIRED = [
    "vaopd.teacher.path=teacher",
    "actor_rollout_ref.model.path=student",
    "data.train_files=train.parquet",
    "data.val_files=val.parquet",
]
CONFIGS = sorted(p.stem for p in (Path(__file__).parents[2] / "verl_vaopd" / "config").glob("*.yaml"))


@pytest.mark.parametrize("name", CONFIGS)
def test_shipped_configs_compose_and_are_valid(name):
    config = compose(name, REQUIRED)
    check_host_values(config)
    validate_host_settings(config)
    vaopd = instantiate(config)
    # The paper's settings (Section 4.1 and its appendix), in every shipped config.
    assert (vaopd.temperature, vaopd.eps, vaopd.high_fraction, vaopd.high_weight) == (1.0, 1e-6, 0.2, 0.5)
    assert vaopd.degradation_ratio == 0.10 and config.actor_rollout_ref.rollout.n == 4
    assert vaopd.max_drift == {"tiny_cpu": 1e-3}.get(name, 0.1)  # fp32, bf16
    assert config.data.train_batch_size == 16
    optim = config.actor_rollout_ref.actor.optim
    assert (list(optim.betas), optim.weight_decay, optim.clip_grad) == ([0.9, 0.95], 0.1, 1.0)


def test_required_settings_that_are_missing_are_named():
    with pytest.raises(ValueError, match="not set: vaopd.teacher.path$"):
        compose("tiny_cpu", REQUIRED[1:])


def test_yaml_and_dataclass_hold_the_same_fields():
    section = compose("vaopd_trainer", REQUIRED).vaopd
    assert set(section) - {"_target_"} == set(VAOPDConfig.__dataclass_fields__)
    assert set(section.teacher) - {"_target_"} == set(TeacherConfig.__dataclass_fields__)
    assert set(section.papo) - {"_target_"} == set(PAPOConfig.__dataclass_fields__)
    assert set(section.gkd) - {"_target_"} == set(GKDConfig.__dataclass_fields__)
    assert set(section.mass) - {"_target_"} == set(MassConfig.__dataclass_fields__)
    assert instantiate(compose("vaopd_trainer", REQUIRED)).papo == PAPOConfig()


@pytest.mark.parametrize(
    "override, says",
    [
        ("vaopd.lamda=0.5", "vaopd.lamda"),
        ("vaopd.high_fractoin=0.5", "Did you mean vaopd.high_fraction?"),
        ("actor.optim.lr=1", "Did you mean actor_rollout_ref.actor.optim.lr or"),
        ("vaopd=null", "not set: vaopd.teacher.path"),
        ("+vaopd.lamda=0.5", "lamda"),
        ("vaopd.method=vaopdd", "vaopd.method='vaopdd'"),
        ("vaopd.method=offpolicy_kd", "vaopd.answers=None: must be the folder that `verl-vaopd answers` made"),
        ("vaopd.papo.perception_weight=-1", "vaopd.papo.perception_weight=-1"),
        ("vaopd.papo.mask_ratio=0", "vaopd.papo.mask_ratio=0"),
        ("vaopd.gkd.beta=1.5", "vaopd.gkd.beta=1.5"),
        ("vaopd.gkd.token_weights=grpo", "vaopd.gkd.token_weights='grpo'"),
        ("vaopd.reward_weight=-1", "vaopd.reward_weight=-1"),
        ("vaopd.temperature=0", "vaopd.temperature=0"),
        ("vaopd.eps=-1", "vaopd.eps=-1"),
        ("vaopd.high_fraction=1.0", "vaopd.high_fraction=1.0"),
        ("vaopd.high_weight=true", "vaopd.high_weight=True"),
        ("vaopd.degradation=blur", "vaopd.degradation='blur'"),
        ("vaopd.score=both", "vaopd.score='both'"),
        ("vaopd.mask_tokens=some", "vaopd.mask_tokens='some'"),
        ("vaopd.mask_tokens=random", "vaopd.mask_tokens='random': must be 'none', unless vaopd.method=opd"),
        ("vaopd.mask_fraction=0", "vaopd.mask_fraction=0"),
        ("vaopd.log_validation_rollouts=-1", "vaopd.log_validation_rollouts=-1"),
        ("vaopd.degradation_ratio=1.5", "vaopd.degradation_ratio=1.5"),
        ("vaopd.chunk_size=0", "vaopd.chunk_size=0"),
        ("vaopd.rollout_weighting=maybe", "vaopd.rollout_weighting='maybe'"),
        ("vaopd.degraded_view=false", "vaopd.degraded_view=False: must be true: vaopd weighs"),
        ("vaopd.teacher.placement=elsewhere", "vaopd.teacher.placement='elsewhere'"),
        ("vaopd.teacher.dtype=fp8", "vaopd.teacher.dtype='fp8'"),
        ("vaopd.teacher.path=''", "vaopd.teacher.path"),
    ],
)
def test_wrong_settings_are_refused_by_name(override, says):
    with pytest.raises(ValueError, match="(?s)" + says.replace(".", r"\.").replace("?", r"\?")):
        check_settings(compose("tiny_cpu", [*REQUIRED, override]))


@pytest.mark.parametrize(
    "override, says",
    [
        ("actor_rollout_ref.actor.ppo_epochs=2", "ppo_epochs=2"),
        ("actor_rollout_ref.actor.ppo_mini_batch_size=6", "ppo_mini_batch_size=6.*divisor"),
        ("actor_rollout_ref.actor.ulysses_sequence_parallel_size=2", "ulysses.*divisor of the 1 devices"),
        ("actor_rollout_ref.model.use_remove_padding=false", "use_remove_padding=False"),
        ("actor_rollout_ref.actor.ppo_max_token_len_per_gpu=319", "319.*320 or more"),
        ("vaopd.teacher.max_token_len_per_gpu=639", "639.*640 or more"),
        ("actor_rollout_ref.actor.fsdp_config.mixed_precision.param_dtype=fp16", "fp16"),
        ("actor_rollout_ref.actor.strategy=fsdp", "strategy='fsdp'"),
        ("actor_rollout_ref.rollout.logprobs_mode=processed_logprobs", "raw_logprobs"),
        ("actor_rollout_ref.rollout.full_determinism=true", "full_determinism=True.*vaopd.seed_rollouts=true"),
        ("data.filter_overlong_prompts=true", "filter_overlong_prompts"),
        ("data.val_batch_size=8", "val_batch_size=8"),
        ("trainer.resume_mode=resume_path", "trainer.resume_from_path=None: must be the folder global_step_N"),
        ("trainer.resume_mode=always", "trainer.resume_mode='always'"),
        ("trainer={resume_mode: resume_path, resume_from_path: run/global_step_4/}", "global_step_4/': must be"),
    ],
)
def test_host_settings_that_would_change_the_loss_are_refused(override, says):
    with pytest.raises(ValueError, match=says):
        validate_host_settings(compose("tiny_cpu", [*REQUIRED, override]))


@pytest.mark.parametrize(
    "devices, override, says",
    [
        (
            (1, 8),
            "actor_rollout_ref.rollout.tensor_model_parallel_size=3",
            "3 devices. divides the 8 .* node .8",
        ),
        ((1, 8), "actor_rollout_ref.rollout.tensor_model_parallel_size=16", "16 devices. divides the 8 devices"),
        ((3, 2), "actor_rollout_ref.rollout.tensor_model_parallel_size=3", "3 devices. divides the 6 .* node .2"),
        ((1, 8), "actor_rollout_ref.rollout.data_parallel_size=3", "data_parallel_size=3"),
        ((1, 8), "actor_rollout_ref.rollout.pipeline_model_parallel_size=5", "pipeline_model_parallel_size=5"),
        (
            (1, 8),
            "actor_rollout_ref.actor.fsdp_config.fsdp_size=3",
            "fsdp_config.fsdp_size=3: must be a divisor",
        ),
        ((1, 8), "vaopd.teacher.fsdp_size=5", "vaopd.teacher.fsdp_size=5: must be a divisor of the 8 devices, or -1"),
        ((1, 8), "actor_rollout_ref.rollout.tensor_model_parallel_size=4", None),
        ((2, 4), "actor_rollout_ref.rollout.tensor_model_parallel_size=8", None),
        ((1, 8), "actor_rollout_ref.actor.fsdp_config.fsdp_size=4", None),
        ((1, 8), "actor_rollout_ref.actor.fsdp_config.fsdp_size=16", None),
    ],
)
def test_what_does_not_divide_the_devices_is_refused(devices, override, says):
    spread = [f"trainer.nnodes={devices[0]}", f"trainer.n_gpus_per_node={devices[1]}", "data.train_batch_size=24"]
    config = compose("tiny_cpu", [*REQUIRED, *spread, override])
    if says is None:
        validate_host_settings(config)
    else:
        with pytest.raises(ValueError, match=says):
            validate_host_settings(config)


@pytest.mark.parametrize(
    "method, override, says",
    [
        ("grpo", "actor_rollout_ref.actor.ppo_mini_batch_size=8", "ppo_mini_batch_size=8: must be 16 .* with grpo"),
        ("grpo", "actor_rollout_ref.actor.loss_agg_mode=token-sum", "loss_agg_mode='token-sum'"),
        ("papo", "actor_rollout_ref.actor.policy_loss.loss_mode=gspo", "loss_mode='gspo': must be 'vanilla' with papo"),
        ("papo", "actor_rollout_ref.actor.ppo_max_token_len_per_gpu=639", "639: must be 640 or more: .* under 2 views"),
    ],
)
def test_host_settings_that_a_policy_gradient_cannot_have_are_refused(method, override, says):
    with pytest.raises(ValueError, match=says):
        validate_host_settings(compose("tiny_cpu", [*REQUIRED, f"vaopd.method={method}", override]))


@pytest.fixture(scope="module")
def tiny():
    return compose("tiny_cpu", REQUIRED)


@pytest.mark.parametrize(
    "name, value",
    [
        ("actor_rollout_ref.actor.optim.lr", float("nan")),
        ("actor_rollout_ref.actor.optim.lr", 0),
        ("actor_rollout_ref.actor.optim.lr", "1e-6"),
        ("actor_rollout_ref.actor.optim.betas", [0.9, 1.0]),
        ("actor_rollout_ref.actor.optim.lr_scheduler_type", "linear"),
        ("actor_rollout_ref.rollout.n", 0),
        ("actor_rollout_ref.rollout.n", 2.0),
        ("actor_rollout_ref.rollout.temperature", float("inf")),
        ("actor_rollout_ref.rollout.top_p", 1.5),
        ("actor_rollout_ref.rollout.prompt_length", 255),
        ("actor_rollout_ref.rollout.max_model_len", 319),
        ("actor_rollout_ref.rollout.gpu_memory_utilization", -0.5),
        ("actor_rollout_ref.rollout.val_kwargs.n", None),
        ("actor_rollout_ref.rollout.engine_kwargs.vllm.limit_mm_per_prompt.image", "two"),
        ("actor_rollout_ref.model.custom_chat_template", "{{ messages }}"),
        ("data.train_batch_size", -16),
        ("data.max_prompt_length", 10**30),
        ("data.image_key", None),
        ("data.seed", "foo"),
        ("actor_rollout_ref.rollout.dtype", "foo"),
        ("actor_rollout_ref.actor.fsdp_config.model_dtype", "foo"),
        ("actor_rollout_ref.actor.fsdp_config.mixed_precision.reduce_dtype", "foo"),
        ("actor_rollout_ref.actor.checkpoint.load_contents", ["model"]),
        ("actor_rollout_ref.actor.checkpoint.save_contents", []),
        ("actor_rollout_ref.actor.checkpoint.save_contents", ["model", "optimizer"]),
        ("actor_rollout_ref.actor.checkpoint.save_contents", ["model", "optimizer", "foo"]),
        ("global_profiler.tool", "foo"),
        ("reward.custom_reward_function", None),
        ("reward.custom_reward_function.reward_kwargs", None),
        ("reward.custom_reward_function.reward_kwargs", {"answer": None}),
        ("reward.custom_reward_function.reward_kwargs", {"answer": "last"}),
        ("reward.custom_reward_function.reward_kwargs.answr", "last_boxed"),
        ("trainer.save_freq", 0),
        ("trainer.total_training_steps", -1),
        ("trainer.nnodes", True),
        ("trainer.n_gpus_per_node", "8"),
        ("trainer.device", "foo"),
        ("trainer.logger", 5),
        ("trainer.logger", ["console", 5]),
        ("trainer", 3),
    ],
)
def test_impossible_values_of_the_hosts_settings_are_named(tiny, name, value):
    config = copy.deepcopy(tiny)
    OmegaConf.update(config, name, value, merge=False, force_add=True)
    with pytest.raises(ValueError, match=name.replace(".", r"\.")):
        check_host_values(config)


def test_a_reward_function_of_ones_own_has_settings_of_its_own(tiny):
    config = copy.deepcopy(tiny)
    own = {"path": "mine.py", "name": "score", "reward_kwargs": {"answer": "any"}}
    OmegaConf.update(config, "reward.custom_reward_function", own, force_add=True)
    check_host_values(config)


@pytest.mark.parametrize(
    "name, value",
    [
        ("vaopd.temperature", float("nan")),
        ("vaopd.temperature", float("inf")),
        ("vaopd.papo.entropy_weight", float("nan")),
        ("vaopd.mask_seed", True),
        ("vaopd.max_drift", 0),
        ("vaopd.output_dir", 3),
        ("vaopd.papo", None),
        ("vaopd.teacher", 3),
        ("vaopd.degradation", ["blank"]),
        ("vaopd.teacher.fsdp_size", 0),
        ("vaopd.teacher.param_offload", 1),
        ("vaopd", None),
    ],
)
def test_impossible_values_of_the_own_section_are_named(tiny, name, value):
    config = copy.deepcopy(tiny)
    OmegaConf.update(config, name, value, merge=False, force_add=True)
    with pytest.raises(ValueError, match=name.replace(".", r"\.")):
        instantiate(config)


def test_the_setting_that_the_user_typed_is_named():
    with pytest.raises(ValueError, match="data.seed='foo'"):  # vaopd.mask_seed follows it
        check_settings(compose("tiny_cpu", [*REQUIRED, "data.seed=foo"]))


def test_a_checkpoint_may_leave_out_the_exported_weights():
    less = "actor_rollout_ref.actor.checkpoint.save_contents=[model,optimizer,extra]"  # docs/reliability.md
    check_settings(compose("tiny_cpu", [*REQUIRED, less]))


def test_papo_wants_both_views_of_a_token_on_one_rank():
    spread = ["actor_rollout_ref.actor.ulysses_sequence_parallel_size=2", "trainer.n_gpus_per_node=2"]
    validate_host_settings(compose("tiny_cpu", [*REQUIRED, "vaopd.method=grpo", *spread]))
    with pytest.raises(ValueError, match="1 with papo"):
        validate_host_settings(compose("tiny_cpu", [*REQUIRED, "vaopd.method=papo", *spread]))


def test_base_only_evaluates():
    config = compose("tiny_cpu", [*REQUIRED, "vaopd.method=base", "trainer.val_before_train=false"])
    check_settings(config)
    assert config.trainer.val_only and config.trainer.val_before_train


def test_mini_batches_must_divide_by_the_ranks():
    overrides = [*REQUIRED, "actor_rollout_ref.actor.ppo_mini_batch_size=1"]
    with pytest.raises(ValueError, match="8 data-parallel ranks"):
        validate_host_settings(compose("tiny_cpu", [*overrides, "trainer.n_gpus_per_node=8"]))
    spread = "actor_rollout_ref.actor.ulysses_sequence_parallel_size=2"
    validate_host_settings(compose("tiny_cpu", [*overrides, "trainer.n_gpus_per_node=8", spread]))


def test_what_the_host_refuses_is_a_refusal_too():
    config = compose(
        "tiny_cpu", [*REQUIRED, "actor_rollout_ref.actor.use_dynamic_bsz=false", "trainer.n_gpus_per_node=7"]
    )
    with pytest.raises(ValueError, match="verl refuses the config"):
        check(config)
