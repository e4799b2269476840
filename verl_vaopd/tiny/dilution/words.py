"""Words around a reading: phrases of a style, drawn from a random table. They say nothing of the figure.

A phrase is a marker and seven words. Of the teacher's, each hangs on the two tokens before it in the phrase, and models
this small learn little of that: it stays close to even. Of the student's, each hangs on the token before it alone.
"""

import torch
from torch import Tensor

LENGTHS = (0, 40, 160)
"""S: tokens of words in an answer."""
MARKER = " note"
WORDS = tuple(f" {first}{second}zu" for first in "bdfgklmp" for second in "aeiou")
VOCABULARY = (MARKER, *WORDS)
PHRASE = 8  # tokens
SPREADS = (1.3, 1.8)  # of the logits of the teacher's table (3.0 nats a word) and of the student's (2.4)


class Style:
    """How one model strings words together. log_probs [41, 41, 40]: of a word, after two tokens of ``VOCABULARY``."""

    def __init__(self, logits: Tensor):
        self.log_probs = logits.log_softmax(-1)

    def phrases(self, count: int, generator: torch.Generator) -> Tensor:
        """[count, 8] int64, places in ``VOCABULARY``."""
        said = torch.zeros(count, PHRASE, dtype=torch.int64)
        for place in range(1, PHRASE):
            before = said[:, max(0, place - 2)], said[:, place - 1]
            chances = self.log_probs[before].exp()
            said[:, place] = 1 + torch.multinomial(chances, 1, generator=generator).squeeze(1)
        return said


def styles(seed: int) -> tuple[Style, Style]:
    """The teacher's and the student's."""
    generator = torch.Generator().manual_seed(seed)
    contexts, words = len(VOCABULARY), len(WORDS)
    two_back = torch.randn(contexts, contexts, words, generator=generator)
    one_back = torch.randn(contexts, words, generator=generator).expand(contexts, -1, -1)
    return Style(SPREADS[0] * two_back), Style(SPREADS[1] * one_back)
