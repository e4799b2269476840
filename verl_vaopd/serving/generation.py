"""Sampling every question of a benchmark once per seed from an OpenAI-compatible server."""

import asyncio
import base64
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import openai
from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from verl_vaopd.serving import EvaluationError
from verl_vaopd.serving.journal import Journal
from verl_vaopd.serving.replies import NoAnswer, answer_of

RETRIES = 5  # with growing pauses, about 15 s in all


@dataclass(frozen=True)
class Decoding:
    """How answers are sampled; the seed is added pass by pass."""

    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int = 4096

    def record(self) -> dict:
        return asdict(self)


def media_type(data: bytes, path: Path) -> str:
    """Of an image file, from its bytes: names mislead, and a system may know no type of an ending.

    Raises:
        EvaluationError: the file holds no image that Pillow knows; named.
    """
    try:
        kind = Image.open(io.BytesIO(data)).format
    except UnidentifiedImageError as error:
        raise EvaluationError(f"{path} holds no image: fetch the benchmark's images again") from error
    kind = "JPEG" if kind == "MPO" else kind  # of a phone: a JPEG with more pictures behind the first
    return Image.MIME[kind]


def chat_message(content: Sequence[Mapping[str, str]]) -> dict:
    """The user's message for toolkit content ({"text": ...} or {"image": path}); image files go as they are."""
    parts = []
    for piece in content:
        if "image" in piece:
            path = Path(piece["image"])
            data = path.read_bytes()
            url = f"data:{media_type(data, path)};base64,{base64.b64encode(data).decode()}"
            parts.append({"type": "image_url", "image_url": {"url": url}})
        else:
            parts.append({"type": "text", "text": piece["text"]})
    return {"role": "user", "content": parts}


class Sampler:
    """Asks one served model, ``workers`` questions at a time.

    Raises:
        EvaluationError: the server stopped answering.
    """

    def __init__(self, base_url: str, model: str, decoding: Decoding, workers: int, api_key: str = "none"):
        self.base_url, self.model, self.decoding, self.workers = base_url, model, decoding, workers
        self.api_key = api_key

    def sample(self, questions: Sequence[dict], journals: Sequence[Journal], title: str) -> list[dict[str, str]]:
        """Answer what each seed's journal (seed = place in the list) lacks.

        Returns:
            Per seed, index -> why the server refused that question. Answers are in the journals: ``key`` (the index),
            ``prediction``, ``finish_reason``, ``tokens``.
        """
        return asyncio.run(self._sample(questions, journals, title))

    async def _sample(self, questions, journals, title):
        failures: list[dict[str, str]] = [{} for _ in journals]
        waiting = [
            (seed, question)
            for seed, journal in enumerate(journals)
            for question in questions
            if question["index"] not in journal.records
        ]
        total = len(questions) * len(journals)
        tasks = iter(waiting)
        client = openai.AsyncOpenAI(base_url=self.base_url, api_key=self.api_key, max_retries=RETRIES, timeout=3600)
        with tqdm(total=total, initial=total - len(waiting), desc=title, unit="answer", mininterval=1) as bar:

            async def work():
                for seed, question in tasks:
                    try:
                        journals[seed].append(await self._answer(client, question, seed))
                    except (openai.APIStatusError, NoAnswer, json.JSONDecodeError) as error:
                        failures[seed][question["index"]] = str(error)
                    bar.update()

            try:
                async with client, asyncio.TaskGroup() as working:
                    for _ in range(self.workers):
                        working.create_task(work())
            except ExceptionGroup as group:
                first = group.exceptions[0]
                if isinstance(first, openai.APIConnectionError):
                    first = EvaluationError(
                        f"the server at {self.base_url} stopped answering ({first}): "
                        "finished answers are kept; start it and run the same command again"
                    )
                raise first from None
        return failures

    async def _answer(self, client: openai.AsyncOpenAI, question: dict, seed: int) -> dict:
        reply = await client.chat.completions.create(
            model=self.model,
            messages=[chat_message(question["content"])],
            seed=seed,
            temperature=self.decoding.temperature,
            top_p=self.decoding.top_p,
            max_tokens=self.decoding.max_tokens,
        )
        answer = answer_of(reply)
        return {
            "key": question["index"],
            "prediction": answer.text,
            "finish_reason": answer.finish_reason,
            "tokens": answer.tokens,
        }
