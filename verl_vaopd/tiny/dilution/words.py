"""Words around a reading: phrases of a style, drawn from a random table. They say nothing of the figure.

A phrase is a marker and seven words; each word hangs on the two before it in the phrase.
"""

import torch
from torch import Tensor

LENGTHS = (0, 40, 160)
"""S: tokens of words in an answer."""
MARKER = " note"
WORDS = tuple(f" {first}{second}zu" for first in "bdfgklmp" for second in "aeiou")
VOCABULARY = (MARKER, *WORDS)
PHRASE = 8  # tokens
SPREAD = 1.3  # of a table's logits: 2.9 nats a word
LIKENESS = 0.5  # correlation of the student's logits with the teacher's: 0.85 nats of KL a word


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
    """The teacher's and the student's, which are alike by ``LIKENESS``."""
    generator = torch.Generator().manual_seed(seed)
    contexts = len(VOCABULARY)
    one, other = (torch.randn(contexts, contexts, len(WORDS), generator=generator) for _ in range(2))
    other = LIKENESS * one + (1 - LIKENESS**2) ** 0.5 * other
    return Style(SPREAD * one), Style(SPREAD * other)
