"""``verl-vaopd export CHECKPOINT --output DIR``: the student of a checkpoint as one Hugging Face folder."""

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from verl_vaopd.model.safe_weights import require_safetensors

WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
UNFINISHED = ".unfinished"


def actor_folder(checkpoint: Path) -> Path:
    """The folder of a checkpoint that holds the student: ``checkpoint`` itself, or ``actor/`` in it.

    Raises:
        ValueError: neither is one.
    """
    if not checkpoint.is_dir():
        raise ValueError(f"{checkpoint}: there is no such folder")
    for folder in (checkpoint, checkpoint / "actor"):
        if (folder / "huggingface" / "config.json").exists():
            return folder
    raise ValueError(f"{checkpoint} is no checkpoint: name checkpoints/global_step_N of a run, or actor/ in it")


def export(checkpoint: Path, output: Path) -> bool:
    """Write the student of ``checkpoint`` to ``output``: weights, config, generation config, tokenizer and processor.

    Its Hugging Face part is copied as it is. Where the checkpoint was saved without that part's weights
    (``actor_rollout_ref.actor.checkpoint.save_contents`` without hf_model), the ranks' shards are merged, in bf16.
    ``output`` appears when it is whole.

    Returns:
        Whether shards were merged.
    Raises:
        ValueError: no checkpoint, a shard that is missing or cut off (named), or an ``output`` that is not empty.
    """
    folder = actor_folder(checkpoint)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ValueError(f"{output} is there and not empty: name another --output")
    merge = not any((folder / "huggingface" / name).exists() for name in WEIGHTS)
    aside = output.with_name(output.name + UNFINISHED)
    shutil.rmtree(aside, ignore_errors=True)
    if merge:
        from verl_vaopd.student.merge import merge_shards, require_whole_shards

        require_whole_shards(folder)
        merge_shards(folder, aside)
    else:
        require_safetensors(str(folder / "huggingface"))
        shutil.copytree(folder / "huggingface", aside)
    os.replace(aside, output)
    return merge


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0: written; 1: it cannot be written; 2: no such checkpoint, or one that is not whole."""
    parser = argparse.ArgumentParser(prog="verl-vaopd export", description=__doc__.split(": ")[1])
    parser.add_argument("checkpoint", type=Path, help="checkpoints/global_step_N of a run, or actor/ in it")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder to make")
    options = parser.parse_args(argv)
    try:
        merged = export(options.checkpoint, options.output)
    except (ValueError, OSError) as error:
        print(f"verl-vaopd export: {error}", file=sys.stderr)
        return 2 if isinstance(error, ValueError) else 1
    how = "merged from the ranks' shards, bf16" if merged else "copied from the checkpoint's Hugging Face part"
    print(f"{options.output}: {how}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
