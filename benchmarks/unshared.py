"""Rollouts that share nothing: every one runs its own prompt and its own image, as is usual elsewhere.

Imported into the workers by ``actor_rollout_ref.model.external_lib``, for comparison only.
"""

from dataclasses import replace

from verl_vaopd.model.engine import VisionEngine

run_rows = VisionEngine.run_rows


def run_unshared(self, rows, head_fn):
    """Each row gets an image object of its own, by which rows are told from siblings."""
    return run_rows(self, [replace(row, images=row.images and replace(row.images)) for row in rows], head_fn)


VisionEngine.run_rows = run_unshared
