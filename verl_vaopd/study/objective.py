"""What the methods minimise, told apart by whether a token is visual, or misread: for the log, and for the gradient of
one part."""

from dataclasses import dataclass, replace

from torch import Tensor

from verl_vaopd.methods.interface.distillation import Divergence
from verl_vaopd.methods.interface.objective import Outcome, Responses
from verl_vaopd.methods.interface.policy import PolicyGradient

PARTS = ("visual", "others")


def of_part(part: str | None, visual: Tensor, weights: Tensor) -> Tensor:
    """``weights`` [M] of one of ``PARTS``, 0 elsewhere; all of them for None."""
    return weights if part is None else weights * (visual if part == "visual" else ~visual)


def counts(given: Responses, visual: Tensor) -> dict[str, Tensor]:
    """Visual tokens and the misread ones; where there is a high group its tokens, and those two among them."""
    misread = given.columns["misread"] > 0
    found = {"visual_tokens": visual.sum(), "misread_tokens": misread.sum()}
    if "high_va" in given.columns:
        high = given.columns["high_va"] > 0
        found |= {
            "high_tokens": high.sum(),
            "high_visual": (high & visual).sum(),
            "high_misread": (high & misread).sum(),
        }
    return found


@dataclass
class Parted(Divergence):
    """part: ``visual`` or ``others``: the loss of these tokens alone; None: of all."""

    part: str | None = None
    fields = ("high_va", "teacher_hidden", "visual", "misread")

    def __call__(self, given: Responses) -> Outcome:
        visual = given.columns["visual"] > 0
        weights = of_part(self.part, visual, given.weights())
        loss, kl, log_probs = self.of(
            given.hidden,
            given.head,
            given.columns["teacher_hidden"],
            given.teacher_head,
            weights,
            given.vocab_size,
            chunk_size=given.chunk_size,
            token_ids=given.token_ids,
        )
        weighted = weights * kl
        sums = {
            "kl_visual_sum": kl[visual].sum(),
            "kl_misread_sum": kl[given.columns["misread"] > 0].sum(),
            "kl_sum": kl.sum(),
            "weighted_visual": weighted[visual].sum(),
            "weighted": weighted.sum(),
            **counts(given, visual),
        }
        return Outcome(loss, log_probs, sums)


@dataclass
class PartedPolicy(PolicyGradient):
    """part: as of :class:`Parted`. grouped: whether the method makes a high group of tokens, for the log."""

    part: str | None = None
    grouped: bool = False

    @property
    def fields(self) -> tuple[str, ...]:
        return ("advantages", "visual", "misread", *(["high_va"] if self.grouped else []))

    def __call__(self, given: Responses) -> Outcome:
        visual, weights = given.columns["visual"] > 0, given.columns["token_weights"]
        weights = of_part(self.part, visual, weights)
        outcome = super().__call__(replace(given, columns={**given.columns, "token_weights": weights}))
        return replace(outcome, sums={**outcome.sums, **counts(given, visual)})
