"""GRPO on the driver: verl's advantages, and how tokens are averaged."""

import math

import pytest
import torch

from verl_vaopd.methods.interface.policy import group_advantages

MASK = torch.tensor([[1, 1, 1], [1, 0, 0], [1, 1, 0], [1, 1, 0]]).bool()
PROMPTS = ["a", "a", "b", "b"]


def rewards(*values):
    scores = torch.zeros(MASK.shape)
    scores[range(4), MASK.sum(1) - 1] = torch.tensor(values)  # verl's reward stands at the last token
    return scores


def test_advantages_by_hand():
    result = group_advantages(rewards(1.0, 0.0, 1.0, 1.0), MASK, PROMPTS)
    # Group a: mean 1/2, sample deviation sqrt(1/2): +-1/2 / sqrt(1/2) = +-sqrt(1/2). Group b: all right, no signal.
    half = math.sqrt(0.5)
    expected = torch.tensor([[half] * 3, [-half, 0, 0], [0.0] * 3, [0.0] * 3])
    torch.testing.assert_close(result.advantages, expected, atol=1e-5, rtol=0)
    plain = group_advantages(rewards(1.0, 0.0, 1.0, 1.0), MASK, PROMPTS, norm_by_std=False)
    torch.testing.assert_close(plain.advantages[:, 0], torch.tensor([0.5, -0.5, 0.0, 0.0]))


def test_weights_by_hand():
    given = rewards(1.0, 0.0, 0.0, 0.0), MASK, PROMPTS
    tokens = group_advantages(*given, loss_agg_mode="token-mean").weights
    torch.testing.assert_close(tokens, MASK / 8)  # 8 tokens in all
    rollouts = group_advantages(*given, loss_agg_mode="seq-mean-token-mean").weights
    expected = torch.tensor([[1 / 12] * 3, [1 / 4, 0, 0], [1 / 8, 1 / 8, 0], [1 / 8, 1 / 8, 0]])
    torch.testing.assert_close(rollouts, expected)


def test_advantage_is_the_hosts(monkeypatch):
    from verl.trainer.ppo import core_algos

    def other(token_level_rewards, **_):
        return torch.full_like(token_level_rewards, 7.0), None

    monkeypatch.setitem(core_algos.ADV_ESTIMATOR_REGISTRY, "grpo", other)
    assert (group_advantages(rewards(1.0, 0.0, 0.0, 0.0), MASK, PROMPTS).advantages == 7.0).all()


@pytest.mark.parametrize("aggregation", ["token-mean", "seq-mean-token-mean"])
def test_weighted_loss_is_the_hosts(aggregation):
    """With these weights verl's policy loss, summed, is verl's policy loss under its own aggregation, clip and all."""
    from verl.trainer.ppo.core_algos import get_policy_loss_fn
    from verl.workers.config import ActorConfig

    actor = ActorConfig(strategy="fsdp2", rollout_n=2, ppo_mini_batch_size=2, ppo_micro_batch_size_per_gpu=1)
    generator = torch.Generator().manual_seed(0)
    old, new = -torch.rand(2, 4, 3, generator=generator)
    result = group_advantages(rewards(1.0, 0.0, 0.0, 1.0), MASK, PROMPTS, aggregation)
    given = dict(advantages=result.advantages, response_mask=MASK.float(), config=actor)
    loss = get_policy_loss_fn("vanilla")
    whole, _ = loss(old_log_prob=old, log_prob=new, loss_agg_mode=aggregation, **given)
    summed, _ = loss(
        old_log_prob=old, log_prob=new, loss_agg_mode="token-sum", rollout_is_weights=result.weights, **given
    )
    torch.testing.assert_close(summed, whole)
