"""Settings of verl's: each is sorted, and one that nothing follows is refused by name."""

import pytest

from verl_vaopd.checks.start import check_settings
from verl_vaopd.settings.compose import compose, untouched
from verl_vaopd.settings.of_verl import HARMLESS, OPEN, REFUSED, USED, _longest, kind_of, leaves

REQUIRED = ["actor_rollout_ref.model.path=s", "vaopd.teacher.path=t", "data.train_files=a", "data.val_files=b"]
HOST = {name: value for name, value in leaves(untouched()) if not name.startswith("vaopd.")}


def test_every_setting_of_verls_is_sorted():
    assert len(HOST) > 500
    assert {name for name in HOST if kind_of(name) is None} == set()


def test_no_pattern_is_left_over():
    """Of a setting that verl had once, or that another pattern hides."""
    decide = {_longest(name)[0] for name in HOST}
    used = {f"{section}.{key}" for section, keys in USED.items() for key in keys.split()}
    reward = "reward.custom_reward_function.reward_kwargs"  # verl has it, its YAML does not
    added = {"actor_rollout_ref.rollout.enable_sleep_mode", reward, f"{reward}.*"}  # the first is tiny_cpu's
    assert {*used, *OPEN, *HARMLESS, *REFUSED} - decide == added


@pytest.mark.parametrize(
    "name",
    [
        "actor_rollout_ref.actor.nonsense",
        "trainer.safe_freq",
        "data.mm_processor",
        "new_section.key",
        "reward.custom_reward_function.foo",
    ],
)
def test_a_setting_that_verl_does_not_have_is_refused_by_name(name):
    with pytest.raises(ValueError, match="verl has no such setting") as refused:
        check_settings(compose("tiny_cpu", [*REQUIRED, f"+{name}=1"]))
    assert str(refused.value).startswith(f"{name}=1")


def test_sections_that_a_library_reads_take_anything():
    vllm, reward = "actor_rollout_ref.rollout.engine_kwargs.vllm", "reward.custom_reward_function.reward_kwargs"
    more = [f"++{vllm}.limit_mm_per_prompt.image=2", f"+{vllm}.seed=1", f"+{reward}.answer=last_boxed"]
    check_settings(compose("tiny_cpu", [*REQUIRED, *more, "+ray_kwargs.ray_init.runtime_env.env_vars.A=b"]))


@pytest.mark.parametrize(
    "override",
    [
        "distillation.enabled=true",
        "actor_rollout_ref.model.lora_adapter_path=a",
        "actor_rollout_ref.model.lora.rank=8",
        "algorithm.adv_estimator=rloo",
        "critic.model.path=c",
        "actor_rollout_ref.ref.fsdp_config.param_offload=true",
        "actor_rollout_ref.rollout.multi_turn.max_user_turns=3",
        "reward.reward_model.model_path=r",
        "actor_rollout_ref.actor.entropy_coeff=0.01",
        "+critic.something_new=1",
        "data.return_full_prompt=true",
        "data.return_raw_chat=false",
        "data.return_multi_modal_inputs=false",
        "data.truncation=foo",
        "data.image_patch_size=16",
        "actor_rollout_ref.actor.rollout_n=3",
        "actor_rollout_ref.actor.use_remove_padding=false",
        "actor_rollout_ref.actor.fsdp_config.dtype=float16",
        "actor_rollout_ref.actor.checkpoint.strict=false",
        "actor_rollout_ref.rollout.skip_tokenizer_init=false",
        "actor_rollout_ref.hybrid_engine=false",
        "trainer.use_v1=false",
    ],
)
def test_a_setting_that_nothing_follows_is_refused_by_name(override):
    name = override.lstrip("+").split("=")[0]
    with pytest.raises(ValueError, match="nothing here follows it; take it out: ") as refused:
        check_settings(compose("tiny_cpu", [*REQUIRED, override]))
    assert str(refused.value).startswith(f"{name}=")


@pytest.mark.parametrize("config", ["vaopd_trainer", "tiny_cpu", "tiny_gpu"])
@pytest.mark.parametrize("method", ["vaopd", "grpo", "papo", "gkd", "base"])
def test_what_the_package_itself_sets_is_followed(config, method):
    gpu = ["trainer.device=cpu", "vaopd.seed_rollouts=false"] if config != "tiny_cpu" else []
    check_settings(compose(config, [*REQUIRED, f"vaopd.method={method}", *gpu]))


def test_a_setting_that_is_followed_and_one_at_its_default_pass():
    same = "actor_rollout_ref.model.lora_rank=0"
    followed = ["vaopd.method=grpo", "algorithm.norm_adv_by_std_in_grpo=false"]
    check_settings(compose("tiny_cpu", [*REQUIRED, *followed, same]))


PARTIAL = "trainer.v1.trainer_mode=colocate_async"
WARMUP = "trainer.v1.colocate_async.num_warmup_batches"
AHEAD = f"{WARMUP}=3"
BOUND = "trainer.v1.sampler.max_off_policy_threshold"


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        ([AHEAD], r"num_warmup_batches=3: nothing follows it under trainer.v1.trainer_mode=sync"),
        ([f"{BOUND}=2"], r"max_off_policy_threshold=2: nothing follows it under"),
        (
            ["trainer.v1.trainer_mode=colocate_async", "trainer.v1.sampler.sync_refill_failed_groups=true"],
            r"sync_refill_failed_groups=True: nothing follows it under trainer.v1.trainer_mode=colocate_async",
        ),
        (["trainer.v1.trainer_mode=separate_async"], r"trainer_mode='separate_async'.*sync.*colocate_async"),
        (["trainer.v1.trainer_mode=colocate_async", f"{BOUND}=0"], r"max_off_policy_threshold=0.*1 or more"),
        (
            [PARTIAL, "trainer.v1.colocate_async.num_warmup_batches=0.5"],
            r"num_warmup_batches=0.5: must be a whole number",
        ),
        (
            [PARTIAL, "trainer.v1.colocate_async.num_warmup_batches=1e300"],
            r"num_warmup_batches=1e\+300: must be a whole",
        ),
        (["trainer.v1.trainer_mode=colocate_async", f"{BOUND}=1.5"], r"max_off_policy_threshold=1.5.*whole number"),
        (["trainer.v1.trainer_mode=colocate_async", "trainer.v1.sampler.max_off_policy_strategy=drop"], r"throws"),
        (["trainer.v1.trainer_mode=colocate_async", "vaopd.method=grpo"], r"trainer_mode.*'sync' with grpo"),
        (["trainer.v1.trainer_mode=colocate_async", "vaopd.method=papo"], r"trainer_mode.*'sync' with papo"),
        (["trainer.v1.trainer_mode=colocate_async", "vaopd.reward_weight=0.5"], r"'sync' with vaopd.reward_weight"),
        (
            ["trainer.v1.trainer_mode=colocate_async", "vaopd.method=offpolicy_kd", "vaopd.answers=a"],
            r"answers of offpolicy_kd are stored",
        ),
    ],
)
def test_settings_of_partial_rollouts_are_looked_at(overrides, says):
    with pytest.raises(ValueError, match=says):
        check_settings(compose("tiny_cpu", [*REQUIRED, *overrides]))


def test_partial_rollouts_have_their_settings():
    mode = "trainer.v1.trainer_mode=colocate_async"
    check_settings(compose("tiny_cpu", [*REQUIRED, mode, AHEAD, f"{BOUND}=2"]))
    check_settings(compose("tiny_cpu", [*REQUIRED, mode, f"{BOUND}=null", "vaopd.method=gkd"]))
