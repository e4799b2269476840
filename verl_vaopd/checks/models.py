"""Checks before any worker exists: do teacher, student and stored answers belong together?"""

import hashlib
import json

import pyarrow.parquet as pq
from transformers import AutoConfig, AutoProcessor

from verl_vaopd.answers.store import StoredAnswers, read_manifest
from verl_vaopd.model.head import local_checkpoint

IMAGE_TOKENS = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")


def check_models(student_path: str, teacher_path: str | None = None):
    """Refuse a teacher and a student that would not read the same prompt. A teacher of None is not looked at.

    Returns:
        The student's processor.
    Raises:
        ValueError: says what differs: model type, image token ids, tokenizer ids or merges, chat template, image
            processor; or a head too small for the tokenizer.
    """
    given = {"student": student_path, "teacher": teacher_path}
    paths = {name: local_checkpoint(path) for name, path in given.items() if path}
    configs = {name: AutoConfig.from_pretrained(path) for name, path in paths.items()}
    processors = {name: AutoProcessor.from_pretrained(path) for name, path in paths.items()}
    for name, config in configs.items():
        if config.model_type != "qwen3_vl":
            raise ValueError(f"the {name} ({paths[name]}) is a {config.model_type!r} model: a Qwen3-VL is needed")
        ids = len(processors[name].tokenizer)
        if config.text_config.vocab_size < ids:
            raise ValueError(f"the {name}'s head has {config.text_config.vocab_size} rows for {ids} tokenizer ids")

    if not teacher_path:
        return processors["student"]

    def differ(what: str, student, teacher):
        if student != teacher:
            raise ValueError(
                f"student ({student_path}) and teacher ({teacher_path}) differ in their {what}: "
                f"{_difference(student, teacher)}. Token ids travel from one to the other, so both must be the same."
            )

    student, teacher = processors["student"], processors["teacher"]
    for name in IMAGE_TOKENS:
        differ(name, getattr(configs["student"], name), getattr(configs["teacher"], name))
    differ("tokenizer ids", student.tokenizer.get_vocab(), teacher.tokenizer.get_vocab())
    differ("tokenizer merges (SHA-256)", _merges(student), _merges(teacher))
    differ("chat template", student.chat_template, teacher.chat_template)
    differ("image processor", _image_settings(student), _image_settings(teacher))
    return student


def _merges(processor) -> str:
    """SHA-256 of a tokenizer's merges: with the same ids, they decide how text is split."""
    model = json.loads(processor.tokenizer.backend_tokenizer.to_str())["model"]
    return hashlib.sha256(json.dumps(model.get("merges")).encode()).hexdigest()


def _image_settings(processor) -> dict:
    settings = processor.image_processor.to_dict()
    return {key: value for key, value in settings.items() if not key.startswith("_") and key != "image_processor_type"}


def _difference(student, teacher) -> str:
    if isinstance(student, dict) and isinstance(teacher, dict):
        keys = [key for key in {**student, **teacher} if student.get(key) != teacher.get(key)]
        shown = ", ".join(f"{key}: {student.get(key)!r} against {teacher.get(key)!r}" for key in keys[:3])
        return f"{len(keys)} entries, first {shown}"
    shortened = [value if len(repr(value)) < 60 else repr(value)[:60] + "..." for value in (student, teacher)]
    return f"{shortened[0]!r} against {shortened[1]!r}"


def check_answers(config) -> None:
    """Refuse stored answers that do not belong to the run.

    Raises:
        ValueError: no complete folder, too few samples, too few right ones for a batch of fine-tuning, answers longer
            than responses may be, or a training row without answers, which is named.
    """
    folder, rollout, limit = config.vaopd.answers, config.actor_rollout_ref.rollout, config.data.max_response_length
    manifest = read_manifest(folder)
    samples = manifest["settings"]["samples"]
    if config.vaopd.method == "offpolicy_kd" and samples < rollout.n:
        raise ValueError(
            f"vaopd.answers: {folder} holds {samples} answers a prompt, rollout.n={rollout.n} asks for more"
        )
    right, batch = round(manifest["accuracy"] * manifest["answers"]), config.data.train_batch_size * rollout.n
    if config.vaopd.method == "cot_sft" and right < batch:
        raise ValueError(
            f"vaopd.answers: {folder} holds {right} right answers, and cot_sft takes {batch} a step "
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
