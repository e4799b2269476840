"""What is laid out, packed or padded."""

from dataclasses import dataclass

import torch

from verl_vaopd.model.vision import ImageInputs


@dataclass
class Row:
    """One sequence to run: token ids [T], how many of its last tokens are the response, its images (None: text-only).

    Rows that hold the *same* ImageInputs object share one pass of the vision tower, and, where their prompts are equal
    too, one pass of the prompt.
    """

    input_ids: torch.Tensor
    response_length: int
    images: ImageInputs | None
