"""Do stored answers belong to the run? Asked before any worker exists."""

import pyarrow.parquet as pq

from verl_vaopd.answers.store import StoredAnswers, read_manifest
from verl_vaopd.methods import Method


def check_answers(config, method: Method) -> None:
    """Refuse stored answers that do not belong to the run.

    Raises:
        ValueError: no complete folder, too few samples, too few right ones for a batch of fine-tuning, answers longer
            than responses may be, or a training row without answers, which is named.
    """
    folder, rollout, limit = config.vaopd.answers, config.actor_rollout_ref.rollout, config.data.max_response_length
    manifest = read_manifest(folder)
    samples = manifest["settings"]["samples"]
    if method.learns_by == "rollouts" and samples < rollout.n:
        raise ValueError(
            f"vaopd.answers: {folder} holds {samples} answers a prompt, rollout.n={rollout.n} asks for more"
        )
    right, batch = round(manifest["accuracy"] * manifest["answers"]), config.data.train_batch_size * rollout.n
    if method.learns_by == "fine_tuning" and right < batch:
        raise ValueError(
            f"vaopd.answers: {folder} holds {right} right answers, and {method.name} takes {batch} a step "
            "(data.train_batch_size x rollout.n): lower data.train_batch_size, or add training rows"
        )
    if manifest["tokens_max"] > limit:
        raise ValueError(
            f"vaopd.answers: {folder} holds an answer of {manifest['tokens_max']} tokens, "
            f"data.max_response_length is {limit}"
        )
    if config.data.train_max_samples > 0:
        return  # the host draws the rows
    answers = StoredAnswers(folder)
    files = config.data.train_files
    for path in [files] if isinstance(files, str) else files:
        for index, info in enumerate(pq.read_table(path, columns=["extra_info"])["extra_info"].to_pylist()):
            if ((info or {}).get("id"), 0) not in answers:
                raise ValueError(
                    f"vaopd.answers: {folder} has no answer to row {index} of {path} (extra_info.id "
                    f"{(info or {}).get('id')!r}): `verl-vaopd answers` with another folder makes those of these data"
                )
