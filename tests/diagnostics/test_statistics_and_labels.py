import numpy as np
import pytest
from omegaconf import OmegaConf

from tests.diagnostics.written_runs import composed
from verl_vaopd.diagnostics.labels import ORDER, label_of, order_of
from verl_vaopd.diagnostics.statistics import cumulative_share, interval, paired, time_to_reach, top_share


def test_interval_by_hand():
    # 1, 2, 3: standard deviation 1, standard error 1 / sqrt(3), t of 2 degrees of freedom 4.303
    assert interval([1, 2, 3]) == (pytest.approx(2.0), pytest.approx(0.57735), pytest.approx(2.4843, rel=1e-4))
    assert interval([5.0]) == (5.0, None, None)
    assert interval(np.arange(200))[2] == pytest.approx(1.96 * np.arange(200).std(ddof=1) / 200**0.5)


def test_pairs_are_of_common_seeds():
    assert paired({1: 0.5, 2: 0.75, 4: 9.0}, {2: 0.25, 1: 0.25, 3: 0.0}) == [0.25, 0.5]


def test_shares_by_hand():
    va = np.array([0.0, 4.0, 1.0, 0.0, 3.0])
    assert top_share(va, 0.4) == pytest.approx(7 / 8) and top_share(va, 0.1) == pytest.approx(4 / 8)
    tokens, mass = cumulative_share(va)
    assert tokens.tolist() == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1]) and mass.tolist() == [0, 0.5, 0.875, 1, 1, 1]


@pytest.mark.parametrize("target, hours", [(0.3, 0.5), (0.2, 0.0), (0.6, 2.0), (0.7, None)])
def test_time_to_reach_by_hand(target, hours):
    # 0.2 at 0 h, 0.4 at 1 h, 0.3 at 1.5 h, 0.6 at 2 h
    assert time_to_reach(np.array([0, 1, 1.5, 2]), np.array([0.2, 0.4, 0.3, 0.6]), target) == pytest.approx(hours)


@pytest.mark.parametrize(
    "changes, label, kind",
    [
        ({}, "VA-OPD", "method"),
        ({"method": "opd", "temperature": 0.5}, "Standard OPD", "method"),
        ({"method": "grpo"}, "GRPO", "method"),
        ({"method": "grpo_va", "rollout_weighting": False}, "GRPO, tokens by VA", "method"),
        (
            {"method": "grpo_va", "score": "distribution", "high_fraction": 0.4},
            "GRPO, tokens by VA, distribution score, p_v 0.4",
            "ablation",
        ),
        ({"method": "self"}, "Self-distillation by VA", "method"),
        ({"method": "self", "score": "distribution"}, "Self-distillation by VA, distribution score", "method"),
        ({"method": "self", "rollout_weighting": False, "token_grouping": False}, "Self-distillation", "method"),
        ({"score": "distribution"}, "VA-OPD, distribution score", "method"),
        ({"token_grouping": False}, "VA-OPD, rollout weights only", "ablation"),
        ({"rollout_weighting": False}, "VA-OPD, token groups only", "ablation"),
        ({"temperature": 0.5, "high_fraction": 0.3}, "VA-OPD, \N{GREEK SMALL LETTER TAU} 0.5, p_v 0.3", "ablation"),
        ({"degradation": "gaussian_blur"}, "VA-OPD, gaussian blur", "ablation"),
        ({"method": "opd", "degradation_ratio": 0.2}, "Standard OPD, ratio 0.2", "ablation"),
        ({"method": "opd", "mask_tokens": "lowest_va"}, "lowest-VA 10% masked", "masking"),
        ({"method": "gkd"}, "GKD, \N{GREEK SMALL LETTER BETA} 0.5", "method"),
        ({"method": "opd", "reward_weight": 0.1}, "Standard OPD, reward 0.1", "ablation"),
        ({"method": "vaopd_mass", "score": "distribution"}, "VA-OPD by mass, distribution score", "method"),
        (
            {"method": "vaopd_mass", "mass": {"share": 0.8, "tokens": "random"}},
            "VA-OPD by mass, share 0.8, random tokens",
            "ablation",
        ),
        ({"method": "pkg://somebodys.module:Own"}, "Own", "method"),  # nothing is imported
    ],
)
def test_labels(changes, label, kind):
    vaopd = {
        "method": "vaopd",
        "score": "sampled",
        "rollout_weighting": True,
        "token_grouping": True,
        "temperature": 1.0,
    }
    vaopd |= {"high_weight": 0.5, "high_fraction": 0.2, "mask_tokens": "none", "mask_fraction": 0.1}
    vaopd |= {"degradation": "pixelation", "degradation_ratio": 0.1}
    vaopd |= {"gkd": {"beta": 0.5, "token_weights": "uniform"}, "mass": {"share": 0.9, "tokens": "highest"}}
    verl = {"rollout": {"n": 4}, "model": {"lora_rank": 0}}
    config = {"vaopd": vaopd | changes, "actor_rollout_ref": verl, "trainer": {"v1": {"trainer_mode": "sync"}}}
    assert label_of(config) == (label, kind)


def test_what_is_trained_and_how_is_in_the_label():
    """Else two such runs would be two seeds of one, or be refused as the same."""
    config = OmegaConf.to_container(composed(), resolve=False)
    config["vaopd"]["method"] = "opd"
    assert label_of(config) == ("Standard OPD", "method")
    config["trainer"]["v1"]["trainer_mode"] = "colocate_async"
    assert label_of(config) == ("Standard OPD, partial rollouts 2/4", "method")
    config["trainer"]["v1"]["sampler"]["max_off_policy_threshold"] = None
    assert label_of(config)[0] == "Standard OPD, partial rollouts 2/no bound"
    config["trainer"]["v1"]["sampler"]["max_off_policy_threshold"] = 4
    config["actor_rollout_ref"]["model"]["lora_rank"] = 8
    config["vaopd"]["freeze"] = ["vision", "merger"]
    expected = "Standard OPD, partial rollouts 2/4, LoRA 8, vision and merger frozen"
    assert label_of(config) == (expected, "ablation")


def test_order_of_labels():
    assert sorted(["VA-OPD", "Standard OPD", "random 10% masked", "Base", "VA-OPD, K 8"], key=order_of) == [
        "Base", "Standard OPD", "random 10% masked", "VA-OPD", "VA-OPD, K 8",
    ]  # fmt: skip
    assert len(set(ORDER)) == len(ORDER) == 13
