"""Weights come in safetensors format: a pickle can run code when it is read."""

import json
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
    elif not os.path.exists(single):
        raise ValueError(
            f"{folder} holds no model.safetensors (or its index): weights must be in safetensors format; pickled ones "
            "are never loaded. Convert them: from_pretrained(...) and save_pretrained(...) of transformers, where you "
            "trust their source"
        )
