"""What checkpoints take of a disk."""

from verl_vaopd.costs.shapes import FP32, ModelShape
from verl_vaopd.costs.trained import Learns


def checkpoint_bytes(student: ModelShape, learns: Learns | None = None) -> float:
    """One checkpoint of all ranks: fp32 weights and AdamW's two states of what is trained (``learns``; None:
    everything), and all weights in Hugging Face's format; adapters in PEFT's too."""
    learns = learns or Learns.everything(student)
    return FP32 * (3 * learns.parameters + student.total + learns.adapters)


def kept_at_most(saves: int, keep: int | None) -> int:
    """Checkpoints that stay of ``saves``: the newest ``keep`` (None: all) and the best."""
    return min(saves, keep + 1) if keep else saves
