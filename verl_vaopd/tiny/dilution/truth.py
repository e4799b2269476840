"""Which tokens of an answer tell what the figure shows: known here because this task's answers have one form.

For measurements, and for the oracle beside this file. No other task has it.
"""

from functools import cache

import torch
from torch import Tensor

from verl_vaopd.tiny.dilution.words import VOCABULARY
from verl_vaopd.tiny.tokenizer import make_tokenizer

DIGITS, BLANK, BEFORE = "0123456789", (" ",), (" are", " and")
"""``The sides are 14 and 39.``: a label's tens follow one of BEFORE and a blank, its ones follow its tens."""


@cache
def tokenizer():
    """The task's: a few tenths of a second, once."""
    return make_tokenizer(VOCABULARY)


def visual_tokens(ids: Tensor) -> Tensor:
    """Whether a token is a digit of the reading, right or wrong.

    Args:
        ids: [..., T] tokens of answers in their order, one answer after the other or padded.
    Returns:
        [..., T] bool.
    """
    digit, blank, before = (_among(ids, texts) for texts in (DIGITS, BLANK, BEFORE))
    tens = digit & _shifted(blank, 1) & _shifted(before, 2)
    return tens | (digit & _shifted(tens, 1))


def _among(ids: Tensor, texts) -> Tensor:
    known = [tokenizer()(text).input_ids for text in texts]
    return torch.isin(ids, torch.tensor(known, device=ids.device).flatten())


def _shifted(flags: Tensor, by: int) -> Tensor:
    """Whether the token ``by`` places before has the flag."""
    return torch.nn.functional.pad(flags, (by, 0))[..., : flags.shape[-1]]
