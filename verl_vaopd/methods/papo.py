"""``papo``: GRPO and PAPO's terms on a masked view of the images (Wang et al. 2025, arXiv 2507.06448). No teacher."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from verl_vaopd.algorithm import blacken_patches, perception_kl, perception_terms
from verl_vaopd.methods.grpo import GRPO
from verl_vaopd.methods.interface.method import DRIFT
from verl_vaopd.methods.interface.objective import Outcome, Responses
from verl_vaopd.methods.interface.policy import PolicyGradient


@dataclass
class PerceptionAware(PolicyGradient):
    """GRPO's loss and, on rows with images, minus the KL between the views plus both entropies.

    settings: PAPOConfig.
    """

    settings: object = None
    views = 2

    def __call__(self, given: Responses) -> Outcome:
        log_probs, at_one = self.log_probs(given)
        first, masked = log_probs[: given.tokens], log_probs[given.tokens :]
        loss, sums = self.loss(first, given)
        seen, weights = first[given.seen_twice], given.weights()[given.seen_twice]
        s = self.settings
        terms = perception_terms(seen, masked, s.perception_weight, s.entropy_weight, s.masked_entropy_weight)
        counted = weights > 0
        kl = perception_kl(seen.detach(), masked.detach())
        sums |= {
            "perception_kl_sum": kl[counted].sum(),
            "masked_entropy_sum": -masked.detach()[counted].sum(),
            "masked_tokens": counted.sum(),
        }
        return Outcome(loss + (weights * terms).sum(), at_one[: given.tokens], sums)


class PAPO(GRPO):
    title = "PAPO"
    student_views = 2

    @property
    def follows(self) -> tuple[str, ...]:
        return ("papo",)

    def second_view(self, rng: random.Random, validate: bool):
        if validate:
            return None
        papo = self.settings.papo
        return partial(blacken_patches, rng=rng, ratio=papo.mask_ratio, patch_size=papo.mask_patch_size)

    def refusals(self, config):
        yield from super().refusals(config)
        ranks = config.actor_rollout_ref.actor.ulysses_sequence_parallel_size
        setting = "actor_rollout_ref.actor.ulysses_sequence_parallel_size"
        yield ranks > 1, setting, ranks, f"1 with {self.name}: a token's two views must be on one rank"

    def objective(self, actor, temperature: float) -> PerceptionAware:
        return PerceptionAware(actor, temperature, settings=self.settings.papo)

    @property
    def shown(self) -> tuple[tuple[str, str], ...]:
        return (("policy/entropy", "entropy {:.4f}"), ("papo/perception_kl", "perception KL {:.4f}"), DRIFT)

    def metrics(self, sums: Mapping[str, float]) -> dict[str, float]:
        metrics = super().metrics(sums)
        if masked := sums["masked_tokens"]:
            metrics["papo/perception_kl"] = sums["perception_kl_sum"] / masked
            metrics["papo/masked_entropy"] = sums["masked_entropy_sum"] / masked
        return metrics
