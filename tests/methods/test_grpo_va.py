"""GRPO whose tokens are weighed by visual advantage: weights by hand, GRPO where they are uniform, its gradient."""

import math

import pytest
import torch
from omegaconf import OmegaConf
from verl.workers.config import ActorConfig

from tests.methods.test_interface import refused_by
from tests.methods.test_weights import config
from verl_vaopd.methods import Responses, Step, method_of
from verl_vaopd.methods.interface.checked import checked

ACTOR = ActorConfig(strategy="fsdp2", rollout_n=2, ppo_mini_batch_size=2, ppo_micro_batch_size_per_gpu=1)
ORIGINAL = -torch.ones(2, 5)
GAINS = torch.tensor([[0.0, 3.0, 0.5, 0.0, 2.0], [1.0, 0.0, 4.0, 0.25, 0.0]])  # nats of VA
HALF = math.sqrt(0.5)  # of two siblings, one right: (1 - 1/2) over the sample's deviation, sqrt(1/2)


def step(gains, rewards, prompts, mask=None, aggregation="token-mean", **columns) -> Step:
    mask = torch.ones(gains.shape, dtype=torch.bool) if mask is None else mask
    host = {
        "actor_rollout_ref": {"actor": {"loss_agg_mode": aggregation}},
        "algorithm": {"norm_adv_by_std_in_grpo": True},
    }
    scores = torch.zeros(mask.shape)
    scores[range(len(mask)), mask.sum(1) - 1] = torch.tensor(rewards)
    original = -torch.ones(mask.shape)
    read = {"rm_scores": scores, "logp_original": original, "logp_pixelated": original - gains, **columns}
    return Step(read, mask, prompts, OmegaConf.create(host))


def weigh(given: Step, **settings):
    method = method_of(config(**{"method": "grpo_va", **settings}))
    own = {name: given.columns[name] for name in method.reads}
    given = Step(own, given.mask, given.prompts, given.config)
    return checked(method, method.weigh(given), given, method.objective(ACTOR, 1.0))


def test_weights_by_hand():
    """Two siblings of five tokens, one right: each holds half of GRPO's weight, 0.6 of it on its two of most VA."""
    found = weigh(step(GAINS, [1.0, 0.0], ["a", "a"]), high_fraction=0.4, high_weight=0.6)
    high, low = 0.5 * 0.6 / 2, 0.5 * 0.4 / 3
    weights = found.student["token_weights"]
    assert weights[0].tolist() == pytest.approx([low, high, low, low, high])  # 3 and 2 nats
    assert weights[1].tolist() == pytest.approx([high, low, high, low, low])  # 1 and 4
    assert found.student["advantages"][:, 0].tolist() == pytest.approx([HALF, -HALF], abs=1e-5)
    coefficient = found.per_token["coefficient"]
    assert coefficient[:, 0].tolist() == pytest.approx([low * HALF, -high * HALF], abs=1e-5)
    assert found.per_token["high_va"].tolist() == [[0, 1, 0, 0, 1], [1, 0, 1, 0, 0]]
    assert found.metrics == {
        "va/mean": pytest.approx(10.75 / 10),
        "va/top10_share": pytest.approx(4 / 10.75),  # one token of ten
        "weights/high_fraction": pytest.approx(0.4),
        "policy/advantage_abs": pytest.approx(HALF, abs=1e-5),
        "policy/no_signal": 0.0,
    }
    assert torch.equal(found.evidence.va, GAINS) and set(found.student) == {"token_weights", "advantages"}


@pytest.mark.parametrize("aggregation", ["token-mean", "seq-mean-token-mean"])
def test_a_rollout_weighs_what_grpo_gives_it(aggregation):
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 0, 0, 0, 0]]).bool()
    given = step(torch.cat([GAINS, GAINS[:1]]), [1.0, 0.0, 0.0], ["a", "a", "a"], mask, aggregation)
    own, plain = weigh(given), weigh(given, method="grpo")
    of_rollouts = [5 / 8, 2 / 8, 1 / 8] if aggregation == "token-mean" else [1 / 3] * 3
    assert own.student["token_weights"].sum(1).tolist() == pytest.approx(of_rollouts)
    torch.testing.assert_close(own.student["token_weights"].sum(1), plain.student["token_weights"].sum(1))
    assert not torch.allclose(own.student["token_weights"], plain.student["token_weights"])
    assert torch.equal(own.student["advantages"], plain.student["advantages"])
    assert not own.student["token_weights"][~mask].any()


def test_with_uniform_weights_it_is_grpo():
    """Two high tokens of five hold 0.4 of a rollout: every token weighs 1/5 of it."""
    given = step(GAINS, [1.0, 0.0], ["a", "a"])
    own, plain = weigh(given, high_fraction=0.4, high_weight=0.4), weigh(given, method="grpo")
    for name, values in plain.student.items():
        torch.testing.assert_close(own.student[name], values, rtol=1e-7, atol=0)
    assert set(own.student) == set(plain.student)


def test_the_distribution_score_makes_the_groups():
    view_kl = GAINS.flip(1)
    given = step(GAINS, [1.0, 0.0], ["a", "a"], view_kl=view_kl, view_gain=GAINS)
    found = weigh(given, high_fraction=0.4, score="distribution")
    assert found.per_token["high_va"].tolist() == [[1, 0, 0, 1, 0], [0, 0, 1, 0, 1]]
    assert torch.equal(found.evidence.va, GAINS) and "va_distribution/mean" in found.metrics


def test_the_order_of_rollouts_changes_nothing():
    generator = torch.Generator().manual_seed(0)
    gains = torch.rand(6, 7, generator=generator)
    mask = torch.arange(7) < torch.tensor([7, 3, 1, 5, 5, 2])[:, None]
    rewards, prompts = [1.0, 0.0, 0.0, 1.0, 0.0, 1.0], ["a", "b", "a", "b", "a", "b"]
    order = [4, 1, 5, 0, 3, 2]
    one = weigh(step(gains, rewards, prompts, mask))
    moved = step(gains[order], [rewards[i] for i in order], [prompts[i] for i in order], mask[order])
    other = weigh(moved)
    for name, values in one.student.items():
        torch.testing.assert_close(other.student[name], values[order], rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("aggregation", ["token-mean", "seq-mean-token-mean"])
def test_gradient_equals_that_of_the_equation_in_float64(aggregation):
    """Weights, advantages and log-probabilities from the page, in loops; the loss through this package's objective."""
    lengths, prompts, rewards, T, width, ids = [6, 3, 1, 5], ["a", "a", "b", "b"], [1.0, 0.0, 0.0, 1.0], 0.7, 4, 9
    generator = torch.Generator().manual_seed(1)
    mask = torch.arange(6) < torch.tensor(lengths)[:, None]
    gains, tokens = 2 * torch.rand(4, 6, generator=generator), torch.randint(0, ids, (4, 6), generator=generator)
    hidden, head = torch.randn(4, 6, width, generator=generator), torch.randn(ids, width, generator=generator)
    settings = {"high_fraction": 0.3, "high_weight": 0.7}

    own = hidden[mask].requires_grad_(), head.clone().requires_grad_()
    found = weigh(step(gains, rewards, prompts, mask, aggregation), **settings)
    columns = {name: values[mask] for name, values in found.student.items()}
    none = torch.zeros(sum(lengths), dtype=torch.bool)
    objective = method_of(config(method="grpo_va", **settings)).objective(ACTOR, T)
    loss = objective(Responses(*own, tokens[mask], columns, none, 1.0, ids, chunk_size=4)).loss

    exact_hidden, exact_head = (each.double().requires_grad_() for each in (hidden, head))
    exact = torch.zeros((), dtype=torch.float64)
    for k, length in enumerate(lengths):
        group = [reward for reward, prompt in zip(rewards, prompts, strict=True) if prompt == prompts[k]]
        mean = sum(group) / len(group)
        deviation = math.sqrt(sum((reward - mean) ** 2 for reward in group) / (len(group) - 1))
        share = length / sum(lengths) if aggregation == "token-mean" else 1 / len(lengths)
        count = math.ceil(0.3 * length)
        first = sorted(range(length), key=lambda t, k=k: -float(gains[k, t]))[:count]
        for t in range(length):
            within = 0.7 / count if t in first else 0.3 / (length - count)
            within = 1.0 if length == count else within
            log_p = (exact_hidden[k, t] @ exact_head.t() / T).log_softmax(-1)[tokens[k, t]]
            exact = exact - (rewards[k] - mean) / (deviation + 1e-6) * share * within * log_p
    wanted = torch.autograd.grad(exact, (exact_hidden, exact_head))
    got = torch.autograd.grad(loss, own)
    for one, other in zip(got, (wanted[0][mask], wanted[1]), strict=True):
        assert (one.double() - other).norm() / other.norm() < 1e-5


def test_what_it_asks_for():
    method = method_of(config(method="grpo_va"))
    assert method.teacher_views == 2 and not method.teacher_hidden and method.second_view(None, False) is not None
    assert method.reads == ("logp_original", "logp_pixelated", "rm_scores")
    assert method.objective(ACTOR, 1.0).fields == ("advantages",)


def test_refusals():
    """One view, partial rollouts, several updates a batch, a reward beside: each by its name."""
    actor = {"ppo_mini_batch_size": 16, "loss_agg_mode": "token-mean", "policy_loss": {"loss_mode": "vanilla"}}
    verl = {"actor_rollout_ref": {"actor": actor}, "data": {"train_batch_size": 16}}
    host = OmegaConf.create({**verl, "trainer": {"v1": {"trainer_mode": "sync"}}})
    usual = method_of(config(method="grpo_va"))
    assert not any(wrong for wrong, *_ in usual.refusals(host))
    host.trainer.v1.trainer_mode, host.actor_rollout_ref.actor.ppo_mini_batch_size = "colocate_async", 8
    other = method_of(config(method="grpo_va", degraded_view=False, reward_weight=0.1))
    told = {name: says for wrong, name, _, says in other.refusals(host) if wrong}
    assert told.pop("vaopd.degraded_view") == "true: grpo_va weighs tokens by the difference of the two views"
    assert told.pop("vaopd.reward_weight") == "0: grpo_va takes no reward beside its objective"
    assert told.pop("trainer.v1.trainer_mode").startswith("'sync' with grpo_va")
    assert told.pop("actor_rollout_ref.actor.ppo_mini_batch_size").startswith("16 (data.train_batch_size) with grpo_va")
    assert not told


def test_settings_that_it_does_not_read_are_refused_by_name():
    assert refused_by("grpo_va", "high_fraction=0.3 high_weight=0.4 score=distribution degradation=blank") == []
    for unread in ("temperature=0.5", "rollout_weighting=false", "token_grouping=false", "mass.share=0.5", "eps=1e-3"):
        assert refused_by("grpo_va", unread) == [f"vaopd.{unread.split('=')[0]}"]
