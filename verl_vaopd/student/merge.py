"""The ranks' shards of a checkpoint, put together into one Hugging Face folder."""

from pathlib import Path

import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata
from verl.model_merger.base_model_merger import BaseModelMerger, ModelMergerConfig

from verl_vaopd.student.checkpoint import SHARDS

MODEL = "model."
"""What names of the student's weights begin with in the index; those of AdamW's state do not."""


class ShardsMerger(BaseModelMerger):
    """The host's, whose FSDP merger reads one file a rank; the shards here are those of torch.distributed.checkpoint.

    From the weights on it is the host's: one of two tied heads, generation config, processor, tokenizer.
    """

    def merge_and_save(self):
        self.save_hf_model_and_tokenizer(read_weights(Path(self.config.local_dir)))

    def cleanup(self):
        """Nothing is left over."""


def merge_shards(actor: Path, output: Path) -> None:
    """Write the student of the checkpoint folder ``actor`` to ``output``, in bf16, by one process without a GPU."""
    config = ModelMergerConfig(
        operation="merge",
        backend="fsdp",
        local_dir=str(actor),
        target_dir=str(output),
        hf_model_config_path=str(actor / "huggingface"),
    )
    ShardsMerger(config).merge_and_save()


def read_weights(actor: Path) -> dict[str, torch.Tensor]:
    """The student's weights by name, whole and in bf16; AdamW's state is not read."""
    index = read_index(actor)
    weights = {
        name.removeprefix(MODEL): torch.empty(entry.size, dtype=torch.bfloat16)  # a shard is cast as it is copied
        for name, entry in index.state_dict_metadata.items()
        if name.startswith(MODEL) and isinstance(entry, TensorStorageMetadata)
    }
    dcp.load({"model": weights}, checkpoint_id=actor / SHARDS, no_dist=True)
    return weights


def read_index(actor: Path) -> Metadata:
    """Which tensor lies where in which file.

    Raises:
        ValueError: it is not there.
    """
    if not (actor / SHARDS / ".metadata").exists():
        raise ValueError(f"{actor / SHARDS} holds no .metadata, the index of its shards: the checkpoint is not whole")
    return dcp.FileSystemReader(actor / SHARDS).read_metadata()


def require_whole_shards(actor: Path) -> None:
    """Refuse a checkpoint that lacks a file, or the end of one, that its index names.

    Raises:
        ValueError: names the file.
    """
    ends: dict[str, int] = {}
    for place in read_index(actor).storage_data.values():
        ends[place.relative_path] = max(ends.get(place.relative_path, 0), place.offset + place.length)
    for name, end in sorted(ends.items()):
        path = actor / SHARDS / name
        if not path.exists():
            raise ValueError(f"{path} is missing: the index beside it names {len(ends)} shards; copy it here as well")
        if (size := path.stat().st_size) < end:
            raise ValueError(f"{path} has {size:,} of its {end:,} bytes: copy it again")
