"""The ranks' shards of a checkpoint, put together into one Hugging Face folder."""

import shutil
from pathlib import Path

import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata
from transformers import AutoConfig, AutoModelForImageTextToText

from verl_vaopd.model.head import local_checkpoint
from verl_vaopd.student.adapters import merge
from verl_vaopd.student.checkpoint import SHARDS
from verl_vaopd.student.hugging_face import write_student
from verl_vaopd.student.trained import Trained

BF16, FP32 = torch.bfloat16, torch.float32
A, B = ".lora_A.default.weight", ".lora_B.default.weight"
MODEL = "model."
"""What names of the student's weights begin with in the index; those of AdamW's state do not."""


def merge_shards(actor: Path, output: Path) -> None:
    """Write the student of the checkpoint folder ``actor`` to ``output``, in bf16, by one process without a GPU."""
    shutil.copytree(actor / "huggingface", output)  # config, generation config, tokenizer, processor, adapters
    write_student(str(output), AutoConfig.from_pretrained(output), read_weights(actor))


def read_weights(actor: Path) -> dict[str, torch.Tensor]:
    """The student's weights by name, whole and in bf16; AdamW's state is not read.

    What was not trained is that of the student which the run began with.

    Raises:
        ValueError: that student is not to be had any more.
    """
    index = read_index(actor)
    weights = {
        # A shard is cast as it is copied; adapters are when they have been merged.
        name.removeprefix(MODEL): torch.empty(entry.size, dtype=FP32 if name.endswith((A, B)) else BF16)
        for name, entry in index.state_dict_metadata.items()
        if name.startswith(MODEL) and isinstance(entry, TensorStorageMetadata)
    }
    dcp.load({"model": weights}, checkpoint_id=actor / SHARDS, no_dist=True)
    trained = Trained.read(actor)
    return weights if trained is None or trained.everything else with_base(weights, trained)


def with_base(weights: dict[str, torch.Tensor], trained: Trained) -> dict[str, torch.Tensor]:
    """``weights`` of what was trained, adapters merged, and all other weights of the student they began with; bf16."""
    path = local_checkpoint(trained.base)
    whole = AutoModelForImageTextToText.from_pretrained(path, dtype=torch.float32).state_dict()
    whole |= {name: weight for name, weight in weights.items() if name in whole}
    for name, a in weights.items():
        if name.endswith(A):
            layer = name.removesuffix(A)
            scale = trained.lora["lora_alpha"] / trained.lora["lora_rank"]
            whole[f"{layer}.weight"] = merge(whole[f"{layer}.weight"], a, weights[layer + B], scale)
    return {name: weight.bfloat16() for name, weight in whole.items()}


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
