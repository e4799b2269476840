"""The tasks that ``verl-vaopd tiny --task NAME`` makes models and data for. Imports no torch.

A further task is one more entry: its builders, and the files whose content decides its folder's.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

MODELS = tuple(
    f"{model}/{name}"
    for model in ("teacher", "student")
    for name in ("config.json", "model.safetensors", "tokenizer.json", "processor_config.json")
)
SHARED = ("tiny/*.py", "data/synthetic_geometry.py")


@dataclass(frozen=True)
class Task:
    """builder: a module with ``build(folder, seed)`` and ``build_random(folder, seed)``, which fill an existing folder
    and return what they measured. sources: patterns below the package. data: what is below ``data/``."""

    name: str
    about: str
    builder: str
    sources: tuple[str, ...] = SHARED
    data: tuple[str, ...] = ("train.parquet", "validation.parquet", "test.parquet")

    @property
    def files(self) -> tuple[str, ...]:
        """What a complete folder holds."""
        return (*MODELS, *(f"data/{name}" for name in self.data))

    def make(self, trained: bool) -> Callable:
        """``build``, or ``build_random``."""
        module = import_module(self.builder)
        return module.build if trained else module.build_random


TASKS = {
    task.name: task
    for task in (
        Task("figures", "add the two numbers of a small figure", "verl_vaopd.tiny.build"),
        Task(
            "perimeter",
            "add the numbers at the 3 to 12 sides of a polygon: answers of 30 to 225 tokens",
            "verl_vaopd.tiny.perimeter.build",
            (*SHARED, "data/perimeter.py", "tiny/perimeter/*.py"),
        ),
        Task(
            "dilution",
            "the same figures, their reading amid 0, 40 or 160 words that have nothing to do with them",
            "verl_vaopd.tiny.dilution.build",
            (*SHARED, *(f"tiny/dilution/{name}.py" for name in ("build", "conversations", "training", "words"))),
            tuple(f"{split}_{words}.parquet" for words in (0, 40, 160) for split in ("train", "validation", "test")),
        ),
    )
}
