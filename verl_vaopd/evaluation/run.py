"""One evaluation: questions from the toolkit, answers from the server, verdicts from the toolkit and the judge."""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from verl_vaopd.evaluation.benchmarks import Benchmark
from verl_vaopd.evaluation.manifest import checkpoint_hash, continue_run, write_json
from verl_vaopd.evaluation.results import (
    QUESTIONS,
    RESULTS,
    TABLE,
    Counts,
    Scored,
    averages,
    check_arithmetic,
    scored,
    table,
    write_lines,
)
from verl_vaopd.evaluation.variants import Variants
from verl_vaopd.runlog.json_lines import read_json_lines
from verl_vaopd.serving import EvaluationError
from verl_vaopd.serving.generation import Decoding, Sampler
from verl_vaopd.serving.journal import Journal
from verl_vaopd.serving.judge import JudgeRelay
from verl_vaopd.serving.server import SERVED_NAME, checked_model, local_checkpoint, vllm_server
from verl_vaopd.serving.toolkit_process import Toolkit

FAILED = "Failed to obtain answer via API."
"""What the toolkit itself writes for an answer it did not get; no option is read out of it."""
UNSAFE_ARGUMENTS = {
    "--trust-remote-code": "code of a checkpoint is never run",
    "--api-key": "every process of this machine can read command lines; the server is on loopback and needs no key",
    "--load-format": "weights are loaded from safetensors only",
}
"""Arguments that the server is not started with, and why."""


@dataclass(frozen=True)
class Settings:
    """What ``verl-vaopd evaluate`` was asked for; the options' help tells each."""

    checkpoint: str
    benchmarks: tuple[Benchmark, ...]
    output: Path
    passes: int = 8
    limit: int | None = None
    decoding: Decoding = Decoding()
    base_url: str | None = None
    served_model: str | None = None
    judge_base_url: str | None = None
    judge: str | None = None
    workers: int = 64
    any_data_file: bool = False
    variants: Variants = Variants()
    server_arguments: tuple[str, ...] = ()

    def check(self) -> None:
        """Raises EvaluationError: settings that contradict each other or cannot lead to a score."""
        if (self.judge_base_url is None) != (self.judge is None):
            raise EvaluationError("--judge-base-url and --judge go together")
        if self.served_model and not self.base_url:
            raise EvaluationError("--served-model belongs to --base-url")
        if self.server_arguments and self.base_url:
            raise EvaluationError("arguments after -- are for the server that is started here: not with --base-url")
        for argument in self.server_arguments:
            name = argument.partition("=")[0].replace("_", "-")
            if name in UNSAFE_ARGUMENTS:
                raise EvaluationError(f"{name} after --: {UNSAFE_ARGUMENTS[name]}")
        need = [each.name for each in self.benchmarks if each.needs_judge and not self.variants.by_rule(each)]
        if need and not self.judge:
            raise EvaluationError(
                f"{', '.join(need)} cannot be scored without a judge: give --judge-base-url and --judge, "
                "or leave them out by --benchmarks"
            )


@contextmanager
def judge_relay(settings: Settings) -> Iterator[JudgeRelay | None]:
    """The judge's relay with its cache, once the judge has answered; None without a judge."""
    if settings.judge is None:
        yield None
        return
    key = os.environ.get("VAOPD_JUDGE_API_KEY") or os.environ.get("OPENAI_API_KEY") or "none"
    cache = Journal(settings.output / "judge.jsonl")
    with JudgeRelay(settings.judge_base_url, settings.judge, key, cache) as relay:
        relay.check()
        yield relay


@contextmanager
def student_server(settings: Settings, checkpoint: Path | None) -> Iterator[tuple[str, str, str]]:
    """(base URL, model, key) of the server that is given, or of one started for the time of the block."""
    key = os.environ.get("VAOPD_MODEL_API_KEY", "none")
    if settings.base_url:
        model = checked_model(settings.base_url, settings.served_model or settings.checkpoint, key)
        yield settings.base_url, model, key
        return
    with vllm_server(checkpoint, settings.output / "server.log", settings.server_arguments) as url:
        yield url, SERVED_NAME, "none"


def texts(question: dict) -> list[str]:
    return [each["text"] for each in question["content"] if "text" in each]


def prepare(settings: Settings, toolkit: Toolkit) -> tuple[dict[str, list[dict]], dict[str, dict]]:
    """The questions of each benchmark with the fields its metric needs, and the hashes of file and questions."""
    questions, sources = {}, {}
    for benchmark in tqdm(settings.benchmarks, desc="questions", unit="benchmark"):
        path = settings.output / "prompts" / f"{benchmark.name}.jsonl"
        path.parent.mkdir(exist_ok=True)
        reply = toolkit.call(
            "prepare",
            dataset=benchmark.dataset,
            output=str(path),
            split=benchmark.split,
            limit=settings.limit,
            any_file=settings.any_data_file,
            prompt=settings.variants.mathverse_prompt if benchmark.name == "MathVerse" else None,
        )
        if not reply["questions"]:
            raise EvaluationError(f"the data file of {benchmark.dataset} has no question of split {benchmark.split}")
        questions[benchmark.name] = read_json_lines(path)
        for question in questions[benchmark.name]:
            images = [Path(each["image"]).name for each in question["content"] if "image" in each]
            question["fields"] = benchmark.fields(question["row"], images)
            question["images"] = images
        asked = [[question["index"], question["images"], texts(question)] for question in questions[benchmark.name]]
        sources[benchmark.name] = {
            "data_file_md5": reply["file_md5"],
            "prompts_sha256": hashlib.sha256(json.dumps(asked).encode()).hexdigest(),
        }
    return questions, sources


def journals_of(settings: Settings, benchmark: Benchmark) -> list[Journal]:
    folder = settings.output / "passes" / benchmark.name
    return [Journal(folder / f"seed_{seed}.jsonl") for seed in range(settings.passes)]


def judged(
    settings: Settings,
    benchmark: Benchmark,
    questions: Sequence[dict],
    journals: Sequence[Journal],
    failures: Sequence[dict[str, str]],
    toolkit: Toolkit,
    relay: JudgeRelay | None,
    bar: tqdm,
) -> tuple[Scored, list[dict]]:
    """Score of a benchmark, and a line for every question and pass.

    Raises:
        EvaluationError: the judge is gone.
    """
    if relay:
        relay.failures.clear()
    verdicts, official, by_rule = [], [], settings.variants.by_rule(benchmark)
    for journal in journals:
        answers = [journal.records.get(question["index"], {"prediction": FAILED}) for question in questions]
        try:
            reply = toolkit.call(
                "score",
                dataset=benchmark.dataset,
                predictions=[settings.variants.graded(answer["prediction"]) for answer in answers],
                judge_url=relay.url if relay and not by_rule else None,
                by_rule=by_rule,
                workers=settings.workers,
                folder=str(settings.output),
            )
        except EvaluationError:
            if relay and relay.dead:  # it was stopped on that account
                raise EvaluationError(relay.dead) from None
            raise
        verdicts.append(reply["verdicts"])
        official.append(reply["official"])
        bar.update()
    if relay and relay.dead:
        raise EvaluationError(relay.dead)
    records = [[journal.records.get(question["index"]) for question in questions] for journal in journals]
    flat = [record for each in records for record in each]
    said = [next(iter(each.values())) for each in failures if each][:1]
    said += list(relay.failures.values())[:1] if relay else []
    every = [verdict for each in verdicts for verdict in each]
    counts = Counts(
        answers=len(flat),
        failed=sum(record is None for record in flat),
        truncated=sum(record is not None and record["finish_reason"] == "length" for record in flat),
        unparsed=sum(verdict["unparsed"] for verdict in every),
        unread=sum(verdict["unread"] for verdict in every),
        judge_failed=len(relay.failures) if relay else 0,
        reasons=said,
    )
    correct = np.array([[verdict["correct"] for verdict in each] for each in verdicts])
    fields = [question["fields"] for question in questions]
    result = scored(benchmark, fields, correct, counts, settings.variants.reported(benchmark))
    check_arithmetic(benchmark, result.parts, official)
    lines = [
        {
            "benchmark": benchmark.name,
            "seed": seed,
            "index": question["index"],
            "fields": question["fields"],
            "prediction": record["prediction"] if record else None,
            "finish_reason": record["finish_reason"] if record else None,
            "tokens": record["tokens"] if record else None,
            **verdict,
        }
        for seed in range(settings.passes)
        for question, record, verdict in zip(questions, records[seed], verdicts[seed], strict=True)
    ]
    return result, lines


def evaluate(settings: Settings) -> dict[str, Scored]:
    """Run what is not done yet, score everything, write ``results.json``, ``questions.jsonl`` and ``table.txt``.

    Raises:
        EvaluationError: what to mend; finished answers stay in the output folder.
    """
    settings.check()
    settings.output.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        checkpoint = None
        if not settings.base_url or Path(settings.checkpoint).is_dir():
            checkpoint = local_checkpoint(settings.checkpoint)
        relay = stack.enter_context(judge_relay(settings))
        with ExitStack() as serving:
            if settings.base_url:
                server = serving.enter_context(student_server(settings, checkpoint))
            toolkit = stack.enter_context(Toolkit(settings.output / "toolkit.log"))
            if relay:
                relay.on_death = toolkit.stop
            questions, sources = prepare(settings, toolkit)
            run = {
                "checkpoint": checkpoint_hash(checkpoint) if checkpoint else settings.checkpoint,
                "toolkit": toolkit.name,
                "decoding": settings.decoding.record(),
                "questions": sources,
            }
            manifest = continue_run(settings.output, run)
            if not settings.base_url:
                server = serving.enter_context(student_server(settings, checkpoint))
            url, model, key = server
            sampler = Sampler(url, model, settings.decoding, settings.workers, key)
            journals = {each.name: journals_of(settings, each) for each in settings.benchmarks}
            failures = {name: sampler.sample(questions[name], journals[name], name) for name in journals}
        results, lines = {}, []
        with tqdm(total=settings.passes * len(settings.benchmarks), desc="scoring", unit="pass") as bar:
            for benchmark in settings.benchmarks:
                name = benchmark.name
                results[name], new = judged(
                    settings, benchmark, questions[name], journals[name], failures[name], toolkit, relay, bar
                )
                lines += new
    manifest |= {
        "checkpoint_name": settings.checkpoint,
        "questions": sources,
        "passes": settings.passes,
        "seeds": list(range(settings.passes)),
        "limit": settings.limit,
        "data_files_checked": not settings.any_data_file,
        "server_arguments": list(settings.server_arguments),
        "judge": {"model": settings.judge, "base_url": settings.judge_base_url, "temperature": 0},
        "variants": settings.variants.record(),
    }
    write_lines(settings.output / QUESTIONS, iter(lines))
    write_json(
        settings.output / RESULTS,
        {
            "manifest": manifest,
            "benchmarks": {name: result.record() for name, result in results.items()},
            "averages": {name: value.record() for name, value in averages(results).items()},
        },
    )
    text = "\n".join(table(results, settings.variants.describe(), settings.passes))
    (settings.output / TABLE).write_text(text + "\n")
    return results
