"""Is every row of the data fit to train on? Looked at before any worker exists, in processes of its own where many."""

import math
import os
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import chain, islice, repeat, zip_longest
from multiprocessing import get_context

import pyarrow as pa
import pyarrow.parquet as pq
from jinja2 import TemplateError
from verl.utils.tokenizer.continuous_token_wiring import create_continuous_token_builder

from verl_vaopd.data.bad_rows import BadRow, RowError, report
from verl_vaopd.data.dataset import VisionDataset, images_of
from verl_vaopd.data.image_column import check_group, read_rows
from verl_vaopd.data.text import PLACEHOLDER, check_question, check_truth, shown
from verl_vaopd.rollout.image_views import budgeted, degraded_images, encode_views, rendered
from verl_vaopd.rollout.prompt_tokens import PromptTokens

ROWS_ENCODED = 8
"""First rows of a file that are encoded under both views, as in training."""
POOL_ROWS = 5000
"""From this many rows of a file on, images are decoded by several processes."""
POOL_PROCESSES = 32
PROGRESS_S = 5.0
VLLM_IMAGES = 999
"""Images vLLM takes for a prompt unless told otherwise."""
MEND = "mend the row or take it out"
ROLES = ("system", "user", "assistant")
HOSTS_OWN = (
    *("agent_name", "dummy_tensor", "global_steps", "priority", "raw_prompt", "session_id", "stored_answer", "uid"),
    *("__do_sample__", "__rollout_n__", "videos", "audios"),
)
"""Columns by which a file would steer verl, or which verl writes itself."""


class RowCheck:
    """Checks rows one by one.

    Args:
        processor: the student's; ``model_type``: as its config.json says.
        data_config: section ``data``.
        degrade: makes the degraded view; ``max_images``: images that vLLM takes for a prompt.
        by_rule: whether ``data/reward.py`` compares answers with the truth; another reward may need none.
    """

    def __init__(self, processor, data_config, degrade, max_images: int, model_type: str, by_rule: bool = True):
        self.processor, self.data, self.degrade, self.max_images = processor, data_config, degrade, max_images
        self.by_rule = by_rule
        added = processor.tokenizer.added_tokens_decoder.values()
        # The processor's own stand-in becomes an image token; PLACEHOLDER is a special token of LLaVA's, and counted.
        special = [token.content for token in added if token.special and token.content != PLACEHOLDER]
        self.control = [*special, "<|placeholder|>"]
        self.budget = dict(data_config.mm_processor_kwargs or {})
        self.encoder = budgeted(processor, data_config)
        self.tokens_of = PromptTokens(processor, self.budget)
        self.messages = VisionDataset.__new__(VisionDataset)  # its message builder, without loading the file again
        self.messages.image_key, self.messages.processor = data_config.image_key, processor
        self.messages.video_key, self.messages.audio_key = "videos", "audios"
        # What verl's agent loop makes a prompt's ids with.
        self.builder = create_continuous_token_builder(
            processor.tokenizer,
            hf_model_type=model_type,
            chat_template_kwargs=dict(data_config.apply_chat_template_kwargs),
            mm_processor_kwargs=self.budget,
            processor=processor,
        )

    def __call__(self, row: dict, sizes: list[tuple[int, int]]) -> int:
        """Check text, answer and length, without touching a pixel.

        Args:
            sizes: width and height of each image.
        Returns:
            The tokens of the prompt.
        Raises:
            RowError: names the field.
        """
        chat = self._chat(row.get(self.data.prompt_key), len(sizes))
        self._answer(row)
        try:
            text = rendered(self.processor, chat, self.data)
        except TemplateError as error:
            problem = f"the chat template does not take it ({error})"
            raise RowError(self.data.prompt_key, "left_out", problem, MEND) from error
        self._whole(chat, text)
        tokens = self.tokens_of(text, sizes)
        if tokens >= self.data.max_prompt_length:  # the host cuts to the limit, so at the limit one cannot tell
            problem = f"the prompt has {tokens} tokens, data.max_prompt_length is {self.data.max_prompt_length}"
            raise RowError(
                self.data.prompt_key,
                "overlong_prompt",
                problem,
                f"set data.max_prompt_length to {tokens + 1} or more, or take the row out (prompts are never cut)",
            )
        return tokens

    def encode(self, row: dict, tokens: int) -> None:
        """Build the prompt's ids and both views as training does.

        Raises:
            RowError: that fails, or gives another number of tokens than ``tokens``.
        """
        key = self.data.image_key
        name = self.data.prompt_key
        messages = [dict(message) for message in row[name]]  # the host writes into them
        try:
            chat = self.messages._build_messages({**row, name: messages}, key=name)
            images = images_of(chat)
            if images:
                degraded = degraded_images(images, self.degrade)
                encode_views(rendered(self.processor, chat, self.data), images, self.encoder, degraded)
            ids = self.builder.build_initial_tokens(chat, images=images)
        except Exception as error:  # processors raise whatever an odd image leads them to
            raise RowError(key, "not_encoded", f"{type(error).__name__}: {error}".rstrip("."), MEND) from error
        if len(ids) != tokens:
            problem = f"the processor makes {len(ids)} tokens of the prompt, {tokens} were counted"
            raise RowError(key, "not_encoded", problem, "use the processor of the model's own family")

    def _chat(self, prompt, images: int) -> list[dict]:
        """The chat as the template is given it, images without pixels."""
        name = self.data.prompt_key
        if not isinstance(prompt, list) or not prompt:
            raise RowError(name, "prompt", f"is no list of messages but {shown(prompt)}", MEND)
        chat = []
        for place, message in enumerate(prompt):
            field = f"{name}[{place}]"
            if not isinstance(message, dict) or not isinstance(message.get("content"), str):
                wanted = "is no message {role, content} with text as content but"
                raise RowError(field, "prompt", f"{wanted} {shown(message)}", MEND)
            if message.get("role") not in ROLES:
                raise RowError(field, "prompt", f"has the role {shown(message.get('role'))}", f"one of {ROLES}")
            text = message["content"]
            try:
                text.encode()
            except UnicodeEncodeError as error:
                raise RowError(field, "not_utf8", f"is not UTF-8 text ({error.reason})", MEND) from error
            for token in self.control:
                if token in text:
                    problem = f"has the special token {token} typed in it, which the model would take as its own"
                    raise RowError(field, "special_token", problem, f"write it in another way or {MEND}")
            pieces = [part for piece in text.split(PLACEHOLDER) for part in (piece, PLACEHOLDER)][:-1]
            parts = [{"type": "image"} if p == PLACEHOLDER else {"type": "text", "text": p} for p in pieces if p]
            # As the host does: a chat without images keeps its strings.
            chat.append({**message, "content": parts if images else text})
        if prompt[-1]["role"] == "assistant":
            raise RowError(f"{name}[{len(prompt) - 1}]", "prompt", "is an answer, behind which none is given", MEND)
        said = [message["content"] for message in prompt]
        asked = "".join(message["content"] for message in prompt if message["role"] == "user")
        check_question("".join(said), images, name)
        check_question(asked, asked.count(PLACEHOLDER), name)
        if images > self.max_images:
            raise RowError(
                self.data.image_key,
                "too_many_images",
                f"holds {images} images, vLLM takes {self.max_images}",
                f"set actor_rollout_ref.rollout.engine_kwargs.vllm.limit_mm_per_prompt.image={images} or {MEND}",
            )
        return chat

    def _answer(self, row: dict) -> None:
        for name, is_wanted, wanted in (
            ("data_source", lambda value: isinstance(value, str), "text"),
            ("reward_model", lambda value: isinstance(value, dict) and "ground_truth" in value, "{ground_truth: ...}"),
            ("extra_info", lambda value: value is None or isinstance(value, dict), "{id, index, ...} or null"),
        ):
            if not is_wanted(row.get(name)):
                raise RowError(name, name, f"is {shown(row.get(name))}", f"it must be {wanted}")
        truth = row["reward_model"]["ground_truth"]
        if not isinstance(truth, str | int | float | None):
            raise RowError("reward_model.ground_truth", "reward_model", f"is {shown(truth)}", "it must be text")
        if self.by_rule:
            finite = truth is not None and truth not in (math.inf, -math.inf) and truth == truth
            if not finite:
                mend = "write it, or name a reward that needs none: reward.custom_reward_function.path"
                raise RowError("reward_model.ground_truth", "empty_answer", "is empty or no number", mend)
            check_truth(str(truth), "reward_model.ground_truth")

    def _whole(self, chat: list[dict], rendered: str) -> None:
        """Refuse a chat of which the template leaves something out."""
        place = 0
        for number, message in enumerate(chat):
            content = message["content"]
            texts = [content] if isinstance(content, str) else [part.get("text", "") for part in content]
            for text in filter(None, (text.strip() for text in texts)):
                place = rendered.find(text, place)
                if place < 0:
                    field = f"{self.data.prompt_key}[{number}]"
                    problem = f"the chat template leaves out what the message ({message['role']}) says"
                    raise RowError(field, "left_out", problem, MEND)
                place += len(text)


def image_limit(config) -> int:
    """Images that vLLM takes for a prompt."""
    limits = config.actor_rollout_ref.rollout.engine_kwargs.vllm.get("limit_mm_per_prompt") or {}
    return limits.get("image", VLLM_IMAGES)


def check_rows(
    files, setting: str, processor, data_config, degrade, max_images: int, model_type: str, by_rule: bool = True
) -> int:
    """Check every row of ``files``; the first ones of each file are encoded under both views.

    Args:
        files: one parquet file or several; ``setting``: the setting that names them.
        max_images: images that vLLM takes for a prompt; model_type: the student's; by_rule: as of RowCheck.
    Returns:
        The number of rows.
    Raises:
        ValueError: names the setting, file, rows and fields, and what to mend.
    """
    check = RowCheck(processor, data_config, degrade, max_images, model_type, by_rule)
    paths = paths_of(files, setting)
    tables = {path: _table(path, setting, data_config) for path in paths}
    try:
        pa.unify_schemas([table.schema_arrow.remove_metadata() for table in tables.values()])
    except pa.ArrowException as error:
        raise ValueError(f"{setting}: the files have different columns ({error}): write them alike") from error
    total, done, told = sum(table.metadata.num_rows for table in tables.values()), 0, time.monotonic()
    bad: list[BadRow] = []
    for path, table in tables.items():
        try:
            for index, (row, images) in enumerate(_rows_and_images(path, table, data_config.image_key)):
                try:
                    _check_one(check, index, row, images)
                except RowError as error:
                    bad.append(error.at(path, index, _id(row)))
                done += 1
                if time.monotonic() - told >= PROGRESS_S:
                    print(f"{setting}: {done:,} of {total:,} rows checked, {len(bad):,} bad", flush=True)
                    told = time.monotonic()
        except (OSError, pa.ArrowException) as error:
            raise ValueError(f"{setting}: {path} cannot be read to its end ({error}): write it again") from error
        except BrokenProcessPool as error:
            raise ValueError(
                f"{setting}: a process that decoded images of {path} was ended, as when memory runs out"
            ) from error
    if bad:
        raise ValueError(f"{setting}: {report(bad, f'bad rows of {total:,}')}")
    return sum(tables[path].metadata.num_rows for path in paths)  # a file that is named twice is read twice


def _check_one(check: RowCheck, index: int, row: dict, images: list[tuple[int, int]] | RowError) -> None:
    for value in (*row.values(), images):
        if isinstance(value, RowError):
            raise value
    tokens = check(row, images)
    if index < ROWS_ENCODED:
        check.encode(row, tokens)


def _id(row: dict) -> str:
    info = row.get("extra_info")
    return str(info.get("id")) if isinstance(info, dict) else "none"


def paths_of(files, setting: str) -> list[str]:
    """The files that a setting names.

    Raises:
        ValueError: it names none, or something else than files.
    """
    paths = [files] if isinstance(files, str) else files
    try:
        paths = list(paths)
    except TypeError:
        paths = []
    if not paths or not all(isinstance(path, str) and path for path in paths):
        raise ValueError(f"{setting}={files!r}: must name a parquet file or a list of them")
    return paths


def _table(path: str, setting: str, data_config) -> pq.ParquetFile:
    """The opened file, whose columns are known."""
    if not os.path.exists(path):
        raise ValueError(f"{setting}: {path} does not exist")
    if not path.endswith(".parquet"):
        raise ValueError(f"{setting}: {path} must be a parquet file, with a name that ends in .parquet")
    try:
        table = pq.ParquetFile(path)
    except (OSError, pa.ArrowException) as error:
        raise ValueError(f"{setting}: {path} cannot be read as parquet ({error}): write it again") from error
    columns = table.schema_arrow.names
    for column in (data_config.prompt_key, "data_source", "reward_model"):
        if column not in columns:
            raise ValueError(f"{setting}: {path} has no column {column!r} (it has {', '.join(columns)})")
    if taken := sorted(set(HOSTS_OWN) & set(columns)):
        raise ValueError(f"{setting}: {path} has the column {taken[0]!r}, a name that verl acts on: take it out")
    if twice := [name for name in columns if columns.count(name) > 1]:
        raise ValueError(f"{setting}: {path} has two columns {twice[0]!r}: take one out")
    if table.metadata.num_rows == 0:
        raise ValueError(f"{setting}: {path} has no rows")
    return table


def _rows_and_images(path: str, table: pq.ParquetFile, image_key: str) -> Iterator[tuple[dict, list | RowError]]:
    """Each row beside the sizes of its images, or what is wrong with them. The first rows alone hold images."""
    names = table.schema_arrow.names
    groups = range(table.num_row_groups)
    plain = read_rows(table, [name for name in names if name != image_key], groups)
    if image_key not in names:
        yield from ((row, []) for row in plain)
        return
    first = islice(read_rows(pq.ParquetFile(path), [image_key], groups), ROWS_ENCODED)
    plain = (row | images for row, images in zip_longest(plain, first, fillvalue={}))
    processes = min(len(os.sched_getaffinity(0)), POOL_PROCESSES, len(groups))
    if table.metadata.num_rows < POOL_ROWS or processes < 2:
        images = chain.from_iterable(check_group(path, group, image_key) for group in groups)
        yield from zip(plain, images, strict=True)
        return
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        images = chain.from_iterable(pool.map(check_group, repeat(path), groups, repeat(image_key)))
        yield from zip(plain, images, strict=True)
