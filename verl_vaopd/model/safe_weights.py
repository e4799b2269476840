"""Weights come in safetensors format: a pickle can run code when it is read."""

import json
import math
import os


def require_safetensors(folder: str) -> None:
    """Refuse a checkpoint whose weights would be unpickled, which can run code.

    Raises:
        ValueError: no model.safetensors or index of such files in ``folder``, or an index that names other files.
    """
    single, index = (os.path.join(folder, name) for name in ("model.safetensors", "model.safetensors.index.json"))
    if os.path.exists(index):
        with open(index) as f:
            named = set(json.load(f)["weight_map"].values())
        wrong = sorted(name for name in named if os.path.basename(name) != name or not name.endswith(".safetensors"))
        if wrong:
            raise ValueError(f"{index} names {wrong[0]!r}: only .safetensors files beside it are loaded")
        if missing := sorted(name for name in named if not os.path.exists(os.path.join(folder, name))):
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise ValueError(f"{index} names {missing[0]}{more}, which is not there: fetch the checkpoint again")
    elif not os.path.exists(single):
        raise ValueError(
            f"{folder} holds no model.safetensors (or its index): weights must be in safetensors format; pickled ones "
            "are never loaded. Convert them: from_pretrained(...) and save_pretrained(...) of transformers, where you "
            "trust their source"
        )
    else:
        named = {os.path.basename(single)}
    for name in sorted(named):
        _require_whole(os.path.join(folder, name))


def count_weights(folder: str) -> int:
    """Numbers in all safetensors files of a checkpoint, from their headers alone."""
    files = [os.path.join(folder, name) for name in os.listdir(folder) if name.endswith(".safetensors")]
    shapes = [entry["shape"] for path in files for name, entry in _header(path).items() if name != "__metadata__"]
    return sum(math.prod(shape) for shape in shapes)


def _header(path: str) -> dict:
    with open(path, "rb") as f:
        return json.loads(f.read(int.from_bytes(f.read(8), "little")))


def _require_whole(path: str) -> None:
    """Refuse a file of weights that is no safetensors file or shorter than its own header says."""
    size = os.path.getsize(path)
    with open(path, "rb") as f:
        start = f.read(8)
        length = int.from_bytes(start, "little")
        if start == b"version ":
            raise ValueError(f"{path} is a pointer of Git LFS, not the weights: run `git lfs pull` in its folder")
        if len(start) < 8 or length > size - 8:
            raise ValueError(f"{path} is no whole safetensors file ({size:,} bytes): fetch it again")
        try:
            header = json.loads(f.read(length))
        except ValueError as error:
            raise ValueError(f"{path} is no safetensors file (its header cannot be read): fetch it again") from error
    ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    if (wanted := 8 + length + max(ends, default=0)) > size:
        raise ValueError(f"{path} has {size:,} of its {wanted:,} bytes: fetch it again")
