"""bf16 products as a GPU forms them: sums in float32, the result rounded. A processor without bf16 takes seconds for a
single one otherwise (the gradient of a layer's input)."""

import warnings

import torch

_REPLACED = torch.library.Library("aten", "IMPL")


def _product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    found = torch.empty(len(a), b.shape[1])
    torch.mm(a.float(), b.float(), out=found)  # not the operator that is replaced
    return found


def _mm(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return _product(a, b).to(a.dtype)


def _addmm(c: torch.Tensor, a: torch.Tensor, b: torch.Tensor, *, beta: float = 1, alpha: float = 1) -> torch.Tensor:
    return (beta * c + alpha * _product(a, b)).to(a.dtype)


def sum_in_float32() -> None:
    """From here on, for this process."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # says that operators are replaced
        _REPLACED.impl("mm", _mm, "CPU")
        _REPLACED.impl("addmm", _addmm, "CPU")
