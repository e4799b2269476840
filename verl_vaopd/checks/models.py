"""Do teacher and student read the same prompt? Asked before any worker exists."""

import hashlib
import json
import os

from transformers import AutoConfig, AutoProcessor

from verl_vaopd.costs.heads import check_heads
from verl_vaopd.model.families import family_of
from verl_vaopd.model.head import local_checkpoint

IMAGE_TOKENS = (
    *("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id"),
    *("image_start_token_id", "image_end_token_id"),
)
"""Of a config, where its family has them."""


def check_models(student_path: str, teacher_path: str | None = None):
    """Refuse a teacher and a student that would not read the same prompt. A teacher of None is not looked at.

    Returns:
        The student's processor.
    Raises:
        ValueError: says what differs: model type, image token ids, tokenizer ids or merges, chat template, image
            processor, ids that end an answer; or a head too small for the tokenizer.
    """
    given = {"student": student_path, "teacher": teacher_path}
    paths = {name: local_checkpoint(path) for name, path in given.items() if path}
    configs = {name: AutoConfig.from_pretrained(path) for name, path in paths.items()}
    for name, config in configs.items():
        try:
            family_of(config)
        except ValueError as error:
            raise ValueError(f"the {name} ({paths[name]}): {error}") from error
    processors = {name: AutoProcessor.from_pretrained(path) for name, path in paths.items()}
    for name, config in configs.items():
        _check_processor(name, paths[name], processors[name])
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
        differ(name, *(getattr(configs[model], name, None) for model in ("student", "teacher")))
    differ("tokenizer ids", student.tokenizer.get_vocab(), teacher.tokenizer.get_vocab())
    differ("tokenizer merges (SHA-256)", _merges(student), _merges(teacher))
    differ("chat template", student.chat_template, teacher.chat_template)
    differ("processor", type(student).__name__, type(teacher).__name__)
    differ("image processor", _image_settings(student), _image_settings(teacher))
    differ("processor's settings", _own_settings(student), _own_settings(teacher))
    ends = {name: eos_ids(path, configs[name]) for name, path in paths.items()}
    if missing := sorted(ends["teacher"] - ends["student"]):
        raise ValueError(
            f"the student ({student_path}) does not end its answers at {missing}, as the teacher ({teacher_path}) "
            f"does: it ends at {sorted(ends['student'])}, so answers that learn from the teacher would never end. "
            "Copy the teacher's generation_config.json into the student's folder"
        )
    return student


def check_student_heads(path: str, tensor_parallel: int) -> None:
    """Refuse a tensor parallelism of vLLM that does not divide the heads of the student ``path``.

    Raises:
        ValueError: names the setting and the heads.
    """
    check_heads(AutoConfig.from_pretrained(local_checkpoint(path)).text_config, tensor_parallel)


def eos_ids(path: str, config) -> set[int]:
    """The ids that end an answer of the checkpoint ``path``: those of generation_config.json, else of its config."""
    file = os.path.join(path, "generation_config.json")
    found = None
    if os.path.exists(file):
        with open(file) as f:
            found = json.load(f).get("eos_token_id")
    found = config.text_config.eos_token_id if found is None else found
    return set(found) if isinstance(found, list) else {found} - {None}


def _check_processor(name: str, path: str, processor) -> None:
    """Raises ValueError: no images, or a tokenizer whose ids and merges cannot be compared."""
    if not hasattr(processor, "image_processor"):
        raise ValueError(f"the {name} ({path}) has no image processor: a model of images and text is needed")
    if not processor.tokenizer.is_fast:
        raise ValueError(
            f"the {name} ({path}) has no fast tokenizer (tokenizer.json): make one with "
            "AutoTokenizer.from_pretrained(...) and save_pretrained(...)"
        )


def model_type_of(path: str) -> str:
    """What the checkpoint's config.json says it is."""
    return AutoConfig.from_pretrained(local_checkpoint(path)).model_type


def _merges(processor) -> str:
    """SHA-256 of a tokenizer's merges: with the same ids, they decide how text is split."""
    model = json.loads(processor.tokenizer.backend_tokenizer.to_str())["model"]
    return hashlib.sha256(json.dumps(model.get("merges")).encode()).hexdigest()


def _image_settings(processor) -> dict:
    settings = processor.image_processor.to_dict()
    return {key: value for key, value in settings.items() if not key.startswith("_") and key != "image_processor_type"}


def _own_settings(processor) -> dict:
    """Of the processor itself: how many tokens a tile is, and the like."""
    settings = processor.to_dict()
    return {key: value for key, value in settings.items() if isinstance(value, int | float | str | bool)}


def _difference(student, teacher) -> str:
    if isinstance(student, dict) and isinstance(teacher, dict):
        keys = [key for key in {**student, **teacher} if student.get(key) != teacher.get(key)]
        shown = ", ".join(f"{key}: {student.get(key)!r} against {teacher.get(key)!r}" for key in keys[:3])
        return f"{len(keys)} entries, first {shown}"
    shortened = [value if len(repr(value)) < 60 else repr(value)[:60] + "..." for value in (student, teacher)]
    return f"{shortened[0]!r} against {shortened[1]!r}"
