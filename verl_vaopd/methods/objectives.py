"""What the student minimises on the response tokens of a micro-batch: one class a family of methods.

An objective is called inside the forward of ``lm_head`` with M hidden states and the head. Its weights hold every
normalisation, so its loss is a plain sum over tokens.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor
from verl.trainer.ppo.core_algos import get_policy_loss_fn

from verl_vaopd.algorithm import fused_linear_reverse_kl, perception_kl, perception_terms, policy_log_probs


@dataclass
class Outcome:
    """loss [], with a graph; log_probs [M] of the sampled tokens at temperature 1, detached; sums: what is logged, each
    over the tokens that ``weights > 0``."""

    loss: Tensor
    log_probs: Tensor
    sums: dict[str, Tensor]


@dataclass
class Distillation:
    """sum(weight * divergence): reverse KL on the student's answers, or forward KL on the teacher's."""

    divergence: Callable = fused_linear_reverse_kl
    fields = ("high_va", "teacher_hidden")
    views = 1

    def __call__(self, engine, hidden, head, token_ids, weights, fields, second) -> Outcome:
        loss, kl, log_probs = self.divergence(
            hidden,
            head,
            fields["teacher_hidden"].to(engine.teacher_head.dtype),
            engine.teacher_head,
            weights,
            engine.vocab_size,
            chunk_size=engine.chunk_size,
            token_ids=token_ids,
        )
        counted = weights > 0
        high = (fields["high_va"] > 0) & counted
        sums = {"kl_sum": kl[counted].sum(), "kl_high_sum": kl[high].sum(), "high_tokens": high.sum()}
        return Outcome(loss, log_probs, sums)


@dataclass
class LogLikelihood:
    """-sum(weight * log p) of given answers: supervised fine-tuning."""

    fields = ()
    views = 1

    def __call__(self, engine, hidden, head, token_ids, weights, fields, second) -> Outcome:
        log_probs, _ = policy_log_probs(hidden, head, token_ids, engine.vocab_size, chunk_size=engine.chunk_size)
        return Outcome(-(weights * log_probs).sum(), log_probs.detach(), {})


@dataclass
class PolicyGradient:
    """GRPO: sum(weight * verl's clipped policy loss). With ``papo``, PAPO's terms come to it.

    One optimiser step is made on a batch, so the policy that sampled is the policy that learns: the old
    log-probabilities are the current ones, detached, and no difference between vLLM and trainer enters the ratio.

    actor: verl's actor config, with its clip settings. temperature: of the rollouts, as in verl.
    papo: PAPOConfig, or None.
    """

    actor: object
    temperature: float
    papo: object | None = None
    fields = ("advantages",)

    @property
    def views(self) -> int:
        """Under which each row runs in one forward."""
        return 1 if self.papo is None else 2

    def __call__(self, engine, hidden, head, token_ids, weights, fields, second) -> Outcome:
        """``second``: [tokens] whether a token's row runs under the masked view too; the hidden states of those tokens
        follow the others'."""
        log_probs, at_one = policy_log_probs(
            hidden, head, token_ids, engine.vocab_size, self.temperature, engine.chunk_size
        )
        tokens = len(weights)
        log_probs, masked_log_probs, at_one = log_probs[:tokens], log_probs[tokens:], at_one[:tokens]
        counted = weights > 0
        # verl's function takes [rows, tokens] and sums them; what it calls importance weights multiply its terms.
        loss, metrics = get_policy_loss_fn("vanilla")(
            old_log_prob=log_probs.detach()[None],
            log_prob=log_probs[None],
            advantages=fields["advantages"][None],
            response_mask=counted[None].float(),
            loss_agg_mode="token-sum",
            config=self.actor,
            rollout_is_weights=weights[None],
        )
        sums = {
            "entropy_sum": -log_probs.detach()[counted].sum(),
            "clipped_sum": metrics["actor/pg_clipfrac"] * counted.sum(),
        }
        if self.papo is not None:
            seen, weights = log_probs[second], weights[second]
            gamma, eta_1, eta_2 = (
                self.papo.perception_weight,
                self.papo.entropy_weight,
                self.papo.masked_entropy_weight,
            )
            loss = loss + (weights * perception_terms(seen, masked_log_probs, gamma, eta_1, eta_2)).sum()
            counted = weights > 0
            kl = perception_kl(seen.detach(), masked_log_probs.detach())
            sums["perception_kl_sum"] = kl[counted].sum()
            sums["masked_entropy_sum"] = -masked_log_probs.detach()[counted].sum()
            sums["masked_tokens"] = counted.sum()
        return Outcome(loss, at_one, sums)
