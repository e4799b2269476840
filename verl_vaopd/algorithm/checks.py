"""What the functions of this package refuse, in one wording."""

import math

import torch
from torch import Tensor


def checked_mask(response_mask: Tensor) -> Tensor:
    """The mask as bool [N, T]; ValueError unless it is 2-D, of zeros and ones, with a one in every row."""
    if response_mask.dim() != 2:
        raise ValueError(f"response_mask must be [N, T], got shape {list(response_mask.shape)}")
    mask = response_mask.detach().bool()
    odd = (response_mask != mask).any(dim=1)  # true for a NaN as well
    if odd.any():
        raise ValueError(f"response_mask holds values other than 0 and 1 in row {_first(odd)}; pass a 0/1 mask")
    empty = ~mask.any(dim=1)
    if empty.any():
        raise ValueError(f"response_mask row {_first(empty)} has no token; drop empty responses before weighting")
    return mask


def check_shape(name: str, values: Tensor, shape, of: str) -> None:
    """ValueError unless ``values`` has the shape of ``of``."""
    if tuple(values.shape) != tuple(shape):
        raise ValueError(f"{name} has shape {list(values.shape)}, but {of} asks for {list(shape)}")


def check_finite(name: str, values: Tensor, mask: Tensor | None = None) -> None:
    """ValueError naming the first row of ``values`` that holds a NaN or an infinity (on the mask, where given)."""
    bad = ~torch.isfinite(values)
    if mask is not None:
        bad &= mask
    if bad.any():
        row = _first(bad.flatten(1).any(dim=1) if bad.dim() > 1 else bad)
        raise ValueError(f"{name} is not finite (NaN or infinite) in row {row}; find where it arose before this call")


def check_positive(name: str, value: float) -> None:
    """ValueError unless ``value`` is a finite number above 0."""
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name} must be a finite number above 0, got {value}")


def check_open_fraction(name: str, value: float) -> None:
    """ValueError unless 0 < value < 1."""
    if not 0 < value < 1:
        raise ValueError(f"{name} must lie strictly between 0 and 1, got {value}")


def check_fraction(name: str, value: float) -> None:
    """ValueError unless ``value`` is a number with 0 <= value <= 1; True and False are none."""
    if isinstance(value, bool) or not 0 <= value <= 1:
        raise ValueError(f"{name} must be a number from 0 to 1, got {value}")


def check_vocab_size(vocab_size: int, **rows: int) -> None:
    """ValueError unless 1 <= vocab_size <= each of the named row counts."""
    if vocab_size < 1:
        raise ValueError(f"vocab_size must be at least 1, got {vocab_size}")
    for name, count in rows.items():
        if vocab_size > count:
            raise ValueError(
                f"vocab_size {vocab_size} is larger than {name}, which has {count} rows; "
                "pass the number of ids of the tokenizer that both models share"
            )


def check_token_ids(token_ids: Tensor, rows: int, vocab_size: int) -> None:
    """ValueError unless ``token_ids`` is an integer [rows] within [0, vocab_size)."""
    check_shape("token_ids", token_ids, (rows,), "one id per hidden row")
    if token_ids.is_floating_point() or token_ids.dtype == torch.bool:
        raise ValueError(f"token_ids must be integers, got {token_ids.dtype}")
    outside = (token_ids < 0) | (token_ids >= vocab_size)
    if outside.any():
        row = _first(outside)
        raise ValueError(
            f"token_ids[{row}] = {int(token_ids[row])} is outside [0, {vocab_size}); "
            "ids of padded head rows must be banned in sampling"
        )


def _first(flags: Tensor) -> int:
    return int(flags.nonzero()[0, 0])
