"""What is asked and answered: half of the words, the reading, the other half, the sum.

Legend: B figures, T tokens.
"""

import torch
from torch import Tensor

from verl_vaopd.data.synthetic_geometry import QUESTIONS, READINGS, worked_answer
from verl_vaopd.tiny.accuracy import chat_prompt
from verl_vaopd.tiny.dilution.words import LENGTHS, PHRASE, VOCABULARY, Style
from verl_vaopd.tiny.figure_batch import VISUAL_TOKENS, figure_positions

CUES = {0: "No notes.", 40: "Five notes.", 160: "Twenty notes."}


def question(words: int) -> str:
    """What is asked where an answer has so many words beside its reading.

    Raises:
        ValueError: a number that is not in ``LENGTHS``.
    """
    if words not in CUES:
        raise ValueError(f"words must be one of {LENGTHS}, got {words}")
    return f"{QUESTIONS[0]} {CUES[words]}"


def parts(first: int, second: int) -> tuple[str, str]:
    """The reading, and the sum worked out from it."""
    reading = READINGS[0].format(first, second)
    return reading, worked_answer(first, second, READINGS[0]).removeprefix(reading)


class Conversations:
    """Token ids of conversations about figures."""

    def __init__(self, processor):
        self.tokenizer = tokenizer = processor.tokenizer
        self.words = torch.tensor(tokenizer.convert_tokens_to_ids(list(VOCABULARY)))
        expanded = processor.image_token * VISUAL_TOKENS
        texts = {words: chat_prompt(processor, question(words)) for words in LENGTHS}
        self.prompts = {
            words: torch.tensor(tokenizer(text.replace(processor.image_token, expanded)).input_ids)
            for words, text in texts.items()
        }
        self.image_start = self.prompts[0].tolist().index(processor.image_token_id)
        self.known: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}

    def parts(self, pair: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Ids of :func:`parts`, the second with the end of turn."""
        if pair not in self.known:
            reading, rest = (self.tokenizer(text).input_ids for text in parts(*pair))
            self.known[pair] = torch.tensor(reading), torch.tensor([*rest, self.tokenizer.eos_token_id])
        return self.known[pair]

    def answer(self, pair: tuple[int, int], phrases: Tensor) -> Tensor:
        """Ids of an answer with ``phrases`` [P, 8], half of them (rounded down) before the reading."""
        (reading, rest), notes, half = self.parts(pair), self.words[phrases], len(phrases) // 2
        return torch.cat([notes[:half].flatten(), reading, notes[half:].flatten(), rest])

    def batch(self, pairs: list[tuple[int, int]], words: int, style: Style, generator) -> tuple[Tensor, Tensor, Tensor]:
        """Conversations about figures with the labels ``pairs``.

        Returns:
            ids [B, T], right padded; is_answer [B, T]; positions [3, 1, T] of ``figure_batch.read_aloud``.
        """
        prompt, count = self.prompts[words], words // PHRASE
        phrases = style.phrases(len(pairs) * count, generator).view(len(pairs), count, PHRASE)
        answers = [self.answer(pair, own) for pair, own in zip(pairs, phrases, strict=True)]
        width = len(prompt) + max(map(len, answers))
        ids = torch.full((len(pairs), width), self.tokenizer.pad_token_id)
        is_answer = torch.zeros(ids.shape, dtype=torch.bool)
        ids[:, : len(prompt)] = prompt
        for row, answer in enumerate(answers):
            end = len(prompt) + len(answer)
            ids[row, len(prompt) : end] = answer
            is_answer[row, len(prompt) : end] = True
        return ids, is_answer, figure_positions(self.image_start, width)
