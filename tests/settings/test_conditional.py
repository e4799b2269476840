"""A setting that is read beside some others alone is refused beside the rest, by name."""

import pytest

from tests.settings.test_of_verl import REQUIRED
from verl_vaopd.checks.start import check, check_settings
from verl_vaopd.settings.compose import compose

ACTOR, TEACHER = "actor_rollout_ref.actor", "vaopd.teacher"


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        ([f"{ACTOR}.clip_ratio_low=0.1"], "clip_ratio_low=0.1: nothing follows it under vaopd.method=vaopd"),
        ([f"{ACTOR}.clip_ratio=0.1"], "clip_ratio=0.1: nothing follows it under vaopd.method=vaopd"),
        ([f"{ACTOR}.clip_ratio=0.1", "vaopd.method=grpo"], "clip_ratio=0.1: nothing follows it under clip_ratio_low"),
        ([f"{ACTOR}.loss_agg_mode=seq-mean-token-mean", "vaopd.method=gkd"], "loss_agg_mode.*vaopd.method=gkd"),
        ([f"{ACTOR}.policy_loss.loss_mode=gspo"], "loss_mode='gspo': nothing follows it"),
        (["algorithm.norm_adv_by_std_in_grpo=false", "vaopd.method=opd"], "norm_adv_by_std_in_grpo=False: nothing"),
        (
            ["trainer.resume_from_path=run/global_step_4"],
            "resume_from_path.*nothing follows it under .*resume_mode=auto",
        ),
        ([f"{TEACHER}.nnodes=2"], f"{TEACHER}.nnodes=2: nothing follows it under {TEACHER}.placement=colocated"),
        ([f"{TEACHER}.n_gpus_per_node=3"], f"{TEACHER}.n_gpus_per_node=3: .*placement=colocated"),
        (
            [f"{ACTOR}.ppo_micro_batch_size_per_gpu=7"],
            f"ppo_micro_batch_size_per_gpu=7: .*{ACTOR}.use_dynamic_bsz=true",
        ),
        ([f"{TEACHER}.micro_batch_size_per_gpu=7"], "micro_batch_size_per_gpu=7: .*use_dynamic_bsz=true"),
    ],
)
def test_a_setting_that_nothing_reads_beside_the_others_is_refused(overrides, says):
    with pytest.raises(ValueError, match=says + ".*; take it out"):
        check_settings(compose("tiny_cpu", [*REQUIRED, *overrides]))


@pytest.mark.parametrize(
    "overrides",
    [
        ["vaopd.method=grpo", f"{ACTOR}.clip_ratio_low=0.1", f"{ACTOR}.loss_agg_mode=seq-mean-token-mean"],
        ["vaopd.method=grpo", f"{ACTOR}.clip_ratio=0.1", f"{ACTOR}.clip_ratio_low=null"],
        ["vaopd.method=papo", "algorithm.norm_adv_by_std_in_grpo=false"],
        ["vaopd.method=grpo_va", f"{ACTOR}.clip_ratio_c=4"],
        ["vaopd.reward_weight=0.1", "algorithm.norm_adv_by_std_in_grpo=false"],
        ["trainer.resume_mode=resume_path", "trainer.resume_from_path=run/global_step_4"],
        [f"{TEACHER}.placement=separate", f"{TEACHER}.nnodes=2", f"{TEACHER}.n_gpus_per_node=3"],
        [f"{ACTOR}.use_dynamic_bsz=false", f"{ACTOR}.ppo_micro_batch_size_per_gpu=16"],
        [f"{TEACHER}.use_dynamic_bsz=false", f"{TEACHER}.micro_batch_size_per_gpu=7"],
        [f"{TEACHER}.nnodes=1", f"{TEACHER}.n_gpus_per_node=1", f"{TEACHER}.micro_batch_size_per_gpu=4"],
    ],
)
def test_where_it_is_read_and_at_its_default_it_passes(overrides):
    check_settings(compose("tiny_cpu", [*REQUIRED, *overrides]))


def test_a_separate_teacher_has_as_many_devices_as_the_student():
    for name, devices in (("tiny_cpu", 1), ("vaopd_trainer", 8)):
        assert compose(name, REQUIRED).vaopd.teacher.n_gpus_per_node == devices
    assert compose("vaopd_trainer", [*REQUIRED, "trainer.n_gpus_per_node=4"]).vaopd.teacher.n_gpus_per_node == 4


def test_answers_that_no_method_reads_are_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    given = compose("tiny_cpu", [*REQUIRED, "vaopd.answers=x"])
    with pytest.raises(ValueError, match="vaopd.answers='x': nothing follows it under vaopd.method=vaopd; take it out"):
        check(given, dry_run=True)
