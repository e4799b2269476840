"""The methods' divergence, told apart by whether a token is visual: for the log, and for the gradient of one part."""

from dataclasses import dataclass

from verl_vaopd.methods.interface.distillation import Divergence
from verl_vaopd.methods.interface.objective import Outcome, Responses


@dataclass
class Parted(Divergence):
    """part: ``visual`` or ``others``: the loss of these tokens alone; None: of all."""

    part: str | None = None
    fields = ("high_va", "teacher_hidden", "visual")

    def __call__(self, given: Responses) -> Outcome:
        visual, weights = given.columns["visual"] > 0, given.weights()
        if self.part is not None:
            weights = weights * (visual if self.part.startswith("visual") else ~visual)
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
        high = given.columns["high_va"] > 0
        sums = {
            "kl_visual_sum": kl[visual].sum(),
            "kl_sum": kl.sum(),
            "weighted_visual": weighted[visual].sum(),
            "weighted": weighted.sum(),
            "visual_tokens": visual.sum(),
            "high_tokens": high.sum(),
            "high_visual": (high & visual).sum(),
        }
        return Outcome(loss, log_probs, sums)
