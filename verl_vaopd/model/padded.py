"""The padded layout: right-padded rows through a model's own forward. For models that the packed layout does not fit.

Slower than :mod:`verl_vaopd.model.packing`: every row runs its prompt and its images, and padding is computed. Exact: a
token never sees what stands to its right.
"""

import inspect
from types import MethodType

import torch

from verl_vaopd.model.families import Family
from verl_vaopd.model.forward import apply_to_head
from verl_vaopd.model.micro_batches import halved
from verl_vaopd.model.packing import Batch, check_lengths
from verl_vaopd.model.row import Row


def check_padded(layout: str, attention: str, sequence_ranks: int) -> None:
    """Refuse settings that the padded layout does not follow.

    Args:
        attention: ``attn_implementation`` as it was asked for.
    Raises:
        ValueError: names the setting.
    """
    if layout == "padded" and attention not in ("auto", "sdpa"):
        raise ValueError(f"attn_implementation={attention!r}: the padded layout runs sdpa; set auto or sdpa")
    if layout == "padded" and sequence_ranks > 1:
        raise ValueError(
            f"ulysses_sequence_parallel_size={sequence_ranks}: the padded layout does not spread a sequence; set 1"
        )


KINDS = ("mm_token_type_ids", "token_type_ids")
"""Under which name a model's forward is told which tokens are an image's. Left out, some models go wrong in silence:
plain positions (Qwen2.5-VL), an image's tokens causal (Gemma 3)."""


def install_padded_forward(module) -> None:
    """Give a model with a head the forward :func:`run_padded`, in place of its own with logits of every token."""
    module.model.kinds = [name for name in KINDS if name in inspect.signature(module.model.forward).parameters]
    module.forward = MethodType(run_padded, module)
    module.lm_head.forward = MethodType(apply_to_head, module.lm_head)


def run_padded(self, row_index, head_fn, **inputs):
    """Run the model once and hand the hidden states at ``row_index`` and the head to ``head_fn``.

    Args:
        row_index: [M] positions in the padded rows, laid end to end; inputs: of the model's own forward.
    Returns:
        What ``head_fn(hidden [M, D], head [rows, D])`` returns.
    """
    is_image = (inputs["input_ids"] == self.config.image_token_id).long()
    kinds = dict.fromkeys(self.model.kinds, is_image)
    hidden = self.model(**inputs, **kinds, use_cache=False).last_hidden_state
    return self.lm_head(hidden.flatten(0, 1)[row_index], head_fn)


def collate_padded(rows: list[Row], family: Family, device, blank: Row) -> Batch:
    """Lay rows out as [R, longest], padded on the right.

    Args:
        blank: a row with an image, run at weight zero where none of ``rows`` has one: ranks must run the same
            collectives, and only an image takes a model through its tower.
    Raises:
        ValueError: no row, or a row whose response is empty or fills it.
    """
    check_lengths(rows)
    run = rows if any(row.images is not None for row in rows) else [*rows, blank]
    longest = max(len(row.input_ids) for row in run)
    ids, mask = (torch.zeros(len(run), longest, dtype=torch.long) for _ in range(2))
    row_index = []
    for place, row in enumerate(run):
        length = len(row.input_ids)
        ids[place, :length], mask[place, :length] = row.input_ids, 1
        if place < len(rows):
            row_index.append(place * longest + torch.arange(length - row.response_length - 1, length - 1))
    inputs = {"input_ids": ids, "attention_mask": mask}
    inputs |= family.joined([row.images for row in run if row.images is not None])
    inputs |= {"row_index": torch.cat(row_index)}
    return Batch(
        model_inputs={name: value.to(device, non_blocking=True) for name, value in inputs.items()},
        response_lengths=[row.response_length for row in rows],
        response_ids=torch.cat([row.input_ids[-row.response_length :] for row in rows]).to(device, non_blocking=True),
        kept=None,
    )


def plan_padded(rows: list[Row], budget: int, at_least: int = 1) -> list[list[int]]:
    """Deal rows out to micro-batches of at most ``budget`` tokens, padding counted; rows of like length together.

    Returns:
        Row indices of each micro-batch, none empty; every row once. A row above the budget runs alone.
    """
    order = sorted(range(len(rows)), key=lambda index: -len(rows[index].input_ids))
    plan: list[list[int]] = []
    for index in order:
        if plan and len(rows[plan[-1][0]].input_ids) * (len(plan[-1]) + 1) <= budget:
            plan[-1].append(index)
        else:
            plan.append([index])
    return halved(plan, at_least)
