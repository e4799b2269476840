"""Checkpoints appear whole or not at all, and old ones go only when a new one is there.

checkpoints/global_step_N/                    whole
checkpoints/latest_checkpointed_iteration.txt N of the newest
checkpoints/.unfinished/                      being written, or left by a crash
"""

import os
import shutil

UNFINISHED = ".unfinished"
TRACKER = "latest_checkpointed_iteration.txt"
"""verl's name; what resuming goes by."""


def begin(folder: str) -> str:
    """An empty folder to write the next checkpoint of ``folder`` into. Returns its path."""
    unfinished = os.path.join(folder, UNFINISHED)
    shutil.rmtree(unfinished, ignore_errors=True)
    os.makedirs(unfinished)
    return unfinished


def aside(folder: str, step: int) -> str:
    """Where the checkpoint of ``step`` is while it is written."""
    return os.path.join(folder, UNFINISHED, f"global_step_{step}")


def publish(folder: str, step: int, keep: int | None, best: int | None = None) -> list[int]:
    """Make the checkpoint of ``step``, written to ``folder``/.unfinished/global_step_N, the newest of ``folder``.

    Each move is one rename: a crash leaves the old newest or the new one. Of those up to ``step`` the newest ``keep``
    (None: all) and that of step ``best`` stay; later ones, of a run that was taken back to an earlier step, stay too.

    Returns:
        The steps that are kept, in order.
    """
    unfinished, whole = os.path.join(folder, UNFINISHED), os.path.join(folder, f"global_step_{step}")
    if os.path.exists(whole):  # of a run that went on from an earlier step
        os.replace(whole, os.path.join(unfinished, "replaced"))
    os.replace(aside(folder, step), whole)
    tracker = os.path.join(folder, TRACKER)
    with open(tracker + ".tmp", "w") as f:
        f.write(str(step))
        f.flush()
        os.fsync(f.fileno())
    os.replace(tracker + ".tmp", tracker)
    shutil.rmtree(unfinished)
    steps = sorted(
        int(entry.removeprefix("global_step_")) for entry in os.listdir(folder) if entry.startswith("global_step_")
    )
    earlier = [other for other in steps if other <= step]
    old = [other for other in earlier[:-keep] if other != best] if keep else []
    for other in old:
        shutil.rmtree(os.path.join(folder, f"global_step_{other}"), ignore_errors=True)
    return [other for other in steps if other not in old]
