"""The student: fluent like the teacher, but it reads badly, so that what it lacks is what the image shows."""

import copy

import torch
from transformers import Qwen3VLForConditionalGeneration

from verl_vaopd.tiny.accuracy import MAX_NEW_TOKENS, accuracy, answers
from verl_vaopd.tiny.models import make_config, make_model

NOISE_LEVELS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0)
STUDENT_AT_MOST = 0.35


def make_student(teacher, processor, seed: int, noise: float) -> Qwen3VLForConditionalGeneration:
    """A copy of the teacher with gaussian noise on the weights of its vision tower, and its own head padding.

    Args:
        noise: standard deviation of the noise on a matrix, relative to the standard deviation of its entries.
    Returns:
        The student in eval mode; ``teacher`` is left as it was.
    """
    student = make_model(make_config(processor.tokenizer, teacher=False), seed)
    weights = copy.deepcopy(teacher.state_dict())
    rows = student.config.text_config.vocab_size
    for name in ("model.language_model.embed_tokens.weight", "lm_head.weight"):
        weights[name] = weights[name][:rows]
    student.load_state_dict(weights)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in student.model.visual.parameters():
            if parameter.dim() > 1:
                scale = noise * parameter.std()
                parameter += scale * torch.randn(parameter.shape, generator=generator)
    return student.eval()


def make_student_reading_badly(teacher, processor, rows: list[dict], seed: int, max_new_tokens: int = MAX_NEW_TOKENS):
    """The student of the least noise whose greedy accuracy on ``rows`` is at most ``STUDENT_AT_MOST``.

    Returns:
        The student and its noise.
    """
    for noise in NOISE_LEVELS:
        student = make_student(teacher, processor, seed, noise)
        if accuracy(answers(student, processor, rows, max_new_tokens=max_new_tokens), rows) <= STUDENT_AT_MOST:
            return student, noise
    raise RuntimeError(f"the student still reads well with vision noise {noise}; try another --seed")
