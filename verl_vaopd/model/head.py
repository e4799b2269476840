"""The teacher's output head, read from its checkpoint: the student side applies it to the teacher's hidden states."""

import json
import os

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from safetensors import safe_open
from transformers import AutoConfig

from verl_vaopd.model.safe_weights import require_safetensors

HEAD, EMBEDDING = "lm_head.weight", "embed_tokens.weight"
"""Last parts of names: what stands before them differs from family to family."""


def local_checkpoint(path: str) -> str:
    """The local folder of a checkpoint: ``path`` itself if it is a folder, else the hub's model of that name.

    Raises:
        ValueError: no such folder, and the hub's model cannot be had; or its weights are not in safetensors format.
    """
    folder = path
    if not os.path.isdir(path):
        try:
            folder = snapshot_download(path, allow_patterns=["*.json", "*.safetensors", "*.jinja", "*.txt"])
        except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError) as error:
            raise ValueError(
                f"{path} is no folder here and cannot be had from the Hugging Face hub: {error}"
            ) from error
    require_safetensors(folder)
    return folder


def is_here(path: str) -> bool:
    """Whether the checkpoint ``path`` is a folder or in the hub's cache; asks no network."""
    if os.path.isdir(path):
        return True
    try:
        snapshot_download(path, local_files_only=True)
    except (LocalEntryNotFoundError, HFValidationError):
        return False
    return True


def load_lm_head(path: str) -> torch.Tensor:
    """Read ``lm_head`` from a safetensors checkpoint, or the input embedding where its config says that the two are
    tied: a head that a tied checkpoint still holds is used by no model.

    Returns:
        [rows, Dt], in the checkpoint's dtype; rows may exceed the tokenizer's ids.
    Raises:
        ValueError: no safetensors file in ``path``, or not exactly one weight in them is called so.
    """
    path = local_checkpoint(path)
    index = os.path.join(path, "model.safetensors.index.json")
    single = os.path.join(path, "model.safetensors")
    if os.path.exists(index):
        with open(index) as f:
            files = json.load(f)["weight_map"]
    else:
        with safe_open(single, framework="pt") as f:
            files = dict.fromkeys(f.keys(), "model.safetensors")
    tied = AutoConfig.from_pretrained(path).tie_word_embeddings
    wanted = EMBEDDING if tied else HEAD
    names = [name for name in files if f".{name}".endswith(f".{wanted}")]
    if len(names) != 1:
        raise ValueError(f"{path} holds {len(names)} {wanted}, though its config says tie_word_embeddings={tied}")
    name = names[0]
    with safe_open(os.path.join(path, files[name]), framework="pt") as f:
        return f.get_tensor(name)
