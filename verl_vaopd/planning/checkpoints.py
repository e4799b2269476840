"""What checkpoints take of a disk."""

from verl_vaopd.costs.shapes import FP32, ModelShape


def checkpoint_bytes(student: ModelShape) -> float:
    """One checkpoint of all ranks: fp32 weights, AdamW's two states, and the weights again in Hugging Face's format."""
    return 4 * FP32 * student.total


def kept_at_most(saves: int, keep: int | None) -> int:
    """Checkpoints that stay of ``saves``: the newest ``keep`` (None: all) and the best."""
    return min(saves, keep + 1) if keep else saves
