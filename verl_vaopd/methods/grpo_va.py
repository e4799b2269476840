"""``grpo_va``: GRPO whose tokens are weighed by visual advantage, beyond the paper. Nothing is distilled.

    loss = -sum_k A_k sum_t c[k, t] r[k, t],  r = pi(y_t) / pi_old(y_t)
    c[k, t] = g_k lambda / |V_k| on V_k,  g_k (1 - lambda) / |L_k| on L_k
    g_k = T_k / sum_j T_j ("token-mean"),  1 / N ("seq-mean-token-mean")

A_k is GRPO's advantage of rollout k, from the accuracy reward within its siblings, and g_k what GRPO's weights of its
T_k tokens sum to. V_k are its ceil(p_v T_k) tokens of most visual advantage, L_k the others (Eq. 5): rollouts count as
in GRPO, tokens within one do not count alike. Where |V_k| = lambda T_k this is GRPO.
"""

from collections.abc import Mapping

from verl_vaopd.algorithm import grouped_token_weights, high_va_mask
from verl_vaopd.methods.grpo import GRPO
from verl_vaopd.methods.interface.method import DRIFT, SHOWN, Label, Step, Weighed
from verl_vaopd.methods.interface.policy import advantages_of, logged_advantages
from verl_vaopd.methods.vaopd import USUAL

GROUPS = ("high_fraction", "high_weight")


class GRPOByVA(GRPO):
    title = "GRPO, tokens by VA"

    @property
    def teacher_views(self) -> int:
        return 2

    @property
    def reads(self) -> tuple[str, ...]:
        return (*self.score_names, *super().reads)

    def weigh(self, step: Step) -> Weighed:
        s, mask, evidence, found = self.settings, step.mask, self.evidence(step), advantages_of(step)
        high = high_va_mask(evidence.score, mask, s.high_fraction)
        of_rollouts = found.weights.double().sum(dim=1)  # g_k
        weights = grouped_token_weights(high, mask, of_rollouts, s.high_weight)  # Eq. 5, times g_k
        of_views, columns = self.scores.logged(evidence, mask)
        of_rewards, logged = logged_advantages(found)
        return Weighed(
            student={"token_weights": weights, "advantages": found.advantages},
            evidence=evidence,
            metrics={**of_views, **of_rewards, "weights/high_fraction": float(high[mask].float().mean())},
            per_rollout=logged,
            per_token={**columns, "coefficient": weights * found.advantages, "high_va": high.int()},
        )

    @property
    def follows(self) -> tuple[str, ...]:
        return (*super().follows, "degraded_view", *GROUPS)

    def refusals(self, config):
        yield from super().refusals(config)
        view = self.settings.degraded_view
        told = f"true: {self.name} weighs tokens by the difference of the two views"
        yield not view, "vaopd.degraded_view", view, told

    @property
    def shown(self) -> tuple[tuple[str, str], ...]:
        return (("policy/entropy", "entropy {:.4f}"), *SHOWN, DRIFT)

    @classmethod
    def label(cls, vaopd: Mapping) -> Label:
        name = cls.title + (", distribution score" if vaopd["score"] == "distribution" else "")
        texts = {key: USUAL[key] for key in GROUPS}
        return Label(name, [f"{text} {vaopd[key]:g}" for key, (text, usual) in texts.items() if vaopd[key] != usual])
