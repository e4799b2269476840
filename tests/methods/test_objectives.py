"""Objectives on a handful of tokens, without an engine: what each adds up, and what it leaves out."""

import pytest
import torch
from verl.workers.config import ActorConfig

from verl_vaopd.methods.cot_sft import LogLikelihood
from verl_vaopd.methods.interface.objective import Responses
from verl_vaopd.methods.interface.policy import PolicyGradient
from verl_vaopd.methods.papo import PerceptionAware
from verl_vaopd.settings.of_methods import PAPOConfig

M, D, V, TEMPERATURE = 6, 4, 9, 0.7
ACTOR = ActorConfig(strategy="fsdp2", rollout_n=2, ppo_mini_batch_size=2, ppo_micro_batch_size_per_gpu=1)
SECOND = torch.tensor([True, True, False, True, False, True])  # two tokens are of a row without image
WEIGHTS = torch.tensor([0.1, 0.2, 0.3, 0.2, 0.2, 0.0])  # the last is padding
ADVANTAGES = torch.tensor([1.0, 1.0, -0.5, -0.5, 0.0, 3.0])


def tokens(count: int):
    generator = torch.Generator().manual_seed(0)
    hidden, head = (0.5 * torch.randn(rows, D, generator=generator) for rows in (count, V + 2))
    ids = torch.randint(0, V, (M,), generator=generator)
    return hidden.requires_grad_(), head.requires_grad_(), torch.cat([ids, ids[SECOND]])[:count]


def given(hidden, head, ids, **columns) -> Responses:
    return Responses(hidden, head, ids, {"token_weights": WEIGHTS, **columns}, SECOND, 1.0, V, chunk_size=2)


def log_probs(hidden, head, ids, temperature):
    return (hidden @ head[:V].t() / temperature).log_softmax(-1).gather(1, ids[:, None]).squeeze(1)


def test_supervised_loss_is_the_weighted_log_likelihood():
    hidden, head, ids = tokens(M)
    outcome = LogLikelihood()(given(hidden, head, ids))
    expected = log_probs(hidden, head, ids, 1.0)
    torch.testing.assert_close(outcome.loss, -(WEIGHTS * expected).sum())
    torch.testing.assert_close(outcome.log_probs, expected.detach())


@pytest.mark.parametrize("papo", [None, PAPOConfig(perception_weight=0.2, entropy_weight=0.05)])
def test_policy_loss_and_its_gradient(papo):
    hidden, head, ids = tokens(M if papo is None else M + int(SECOND.sum()))
    objective = PerceptionAware(ACTOR, TEMPERATURE, settings=papo) if papo else PolicyGradient(ACTOR, TEMPERATURE)
    assert objective.views == (1 if papo is None else 2)
    outcome = objective(given(hidden, head, ids, advantages=ADVANTAGES))
    got = torch.autograd.grad(outcome.loss, (hidden, head))

    log_p = log_probs(hidden, head, ids, TEMPERATURE)
    first, masked = log_p[:M], log_p[M:]
    loss = -(WEIGHTS * ADVANTAGES * (first - first.detach()).exp()).sum()
    if papo:
        seen, weights = first[SECOND], WEIGHTS[SECOND]
        kl = (masked - seen).exp() - (masked - seen) - 1
        loss = loss + (weights * (-0.2 * kl - 0.05 * seen - 0.03 * masked)).sum()
        assert outcome.sums["masked_tokens"] == 3  # of the four with a second view one is padding
        torch.testing.assert_close(outcome.sums["perception_kl_sum"], kl[:3].sum().detach())
        torch.testing.assert_close(outcome.sums["masked_entropy_sum"], -masked[:3].sum().detach())
    torch.testing.assert_close(outcome.loss, loss)
    for one, other in zip(got, torch.autograd.grad(loss, (hidden, head)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
    # The drift is measured at temperature 1, as vLLM reports.
    torch.testing.assert_close(outcome.log_probs, log_probs(hidden, head, ids, 1.0)[:M].detach())
    torch.testing.assert_close(outcome.sums["entropy_sum"], -first[:5].sum().detach())
