"""Gradients against those in a file, one parameter at a time: they fill gigabytes."""

from pathlib import Path

import torch
from safetensors import safe_open


class GradientErrors:
    """Norm of the difference over norm of what is wanted, for each parameter and for all of them together."""

    def __init__(self, wanted: Path):
        self.wanted, self.each, self.difference, self.size = wanted, {}, 0.0, 0.0

    def add(self, name: str, got: torch.Tensor) -> None:
        with safe_open(self.wanted, "pt") as f:
            wanted = f.get_tensor(name)
        difference, size = float((got - wanted).norm()), float(wanted.norm())
        self.each[name] = difference / max(size, 1e-12)
        self.difference, self.size = self.difference + difference**2, self.size + size**2

    def found(self) -> dict:
        return {"gradient_errors": self.each, "gradient_error": (self.difference / self.size) ** 0.5}
