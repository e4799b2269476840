"""What the student minimises on the response tokens of a micro-batch.

An objective is called inside the forward of ``lm_head``. Its weights hold every normalisation, so its loss is a plain
sum over tokens.

Legend: M response tokens of this rank, M2 of them under a second view, R rows of the head, Ds, Dt hidden sizes.
"""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass
class Responses:
    """What an objective is given.

    hidden: [M + M2, Ds], each state predicts the token of its row; those of a second view follow the first's.
    head: [R, Ds], the student's.
    token_ids: [M + M2] sampled tokens.
    columns: name -> [M] (or [M, Dt]), the objective's ``fields`` and ``token_weights``.
    seen_twice: [M] bool, whether a token's row runs under the second view too.
    scale: what every weight is multiplied by, since FSDP averages gradients over the ranks.
    vocab_size: ids of the tokenizer, the head's rows from there on are padding; chunk_size: rows of logits at a time.
    teacher_head: [R', Dt]; None unless ``fields`` names ``teacher_hidden``.
    """

    hidden: Tensor
    head: Tensor
    token_ids: Tensor
    columns: dict[str, Tensor]
    seen_twice: Tensor
    scale: float
    vocab_size: int
    chunk_size: int | None = None
    teacher_head: Tensor | None = None

    @property
    def tokens(self) -> int:
        """M."""
        return len(self.columns["token_weights"])

    def weights(self, name: str = "token_weights") -> Tensor:
        """[M] float32, scaled. Rows that the host adds to a batch weigh nothing."""
        return self.scale * self.columns[name].float()


@dataclass
class Outcome:
    """loss [], with a graph; log_probs [M] of the sampled tokens at temperature 1, detached; sums: what is logged, each
    over tokens that have a weight."""

    loss: Tensor
    log_probs: Tensor
    sums: dict[str, Tensor]


class Objective(Protocol):
    """``fields``: columns it reads beside ``token_weights``; ``views``: 2 if rows with images run under the second view
    too."""

    fields: tuple[str, ...]
    views: int

    def __call__(self, responses: Responses) -> Outcome: ...
