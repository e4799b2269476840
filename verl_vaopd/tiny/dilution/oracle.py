"""A method that knows which tokens are visual: what weighing tokens could gain at most. For the tiny task alone.

vaopd.method=pkg://verl_vaopd.tiny.dilution.oracle:Oracle
"""

from collections.abc import Iterator
from pathlib import Path

from tokenizers import Tokenizer
from torch import Tensor

from verl_vaopd.methods import Step, Views
from verl_vaopd.methods.vaopd import VAOPD
from verl_vaopd.tiny.dilution.truth import tokenizer, visual_tokens


class Oracle(VAOPD):
    """VA-OPD whose high group is the digits of the reading, by truth."""

    title = "Oracle (tiny task only)"

    @property
    def score_names(self) -> tuple[str, ...]:
        return (*super().score_names, "visual")

    def score(self, views: Views) -> dict[str, Tensor]:
        """Beside the teacher's scores: 1 on digits of the reading.

        Raises:
            ValueError: models of another task.
        """
        if views.vocab_size != len(tokenizer()):
            raise ValueError(
                f"vaopd.method={self.name}: knows the answers of `verl-vaopd tiny --task dilution` only, whose "
                f"tokenizer has {len(tokenizer())} ids; that of these models has {views.vocab_size}"
            )
        truth = visual_tokens(views.token_ids[: views.tokens])
        return {**super().score(views), "visual": truth.to(views.hidden.dtype)}

    def high_group(self, step: Step) -> Tensor:
        return (step.columns["visual"] > 0) & step.mask

    def refusals(self, config) -> Iterator:
        yield from super().refusals(config)
        groups = self.settings.token_grouping
        yield not groups, "vaopd.token_grouping", groups, "true: the oracle is a rule for groups"
        student = config.actor_rollout_ref.model.path  # the teacher's tokenizer must be the same, whatever the method
        wanted = "a model of `verl-vaopd tiny --task dilution`: the oracle knows the answers of no other task"
        yield _has_another_tokenizer(Path(student)), "actor_rollout_ref.model.path", student, wanted


def _has_another_tokenizer(folder: Path) -> bool:
    """Than the task's; False of a folder that is not here yet."""
    if not (file := folder / "tokenizer.json").is_file():
        return False
    return Tokenizer.from_file(str(file)).get_vocab() != tokenizer().get_vocab()
