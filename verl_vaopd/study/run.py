"""One run: updates, each logged; measured on held-out figures on the way and at its end."""

import json
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from transformers import AutoProcessor

from verl_vaopd.runlog.study_log import DONE, SETTINGS, UPDATES
from verl_vaopd.study.arms import ARMS, REGIMES, ROOM, Run
from verl_vaopd.study.engines import Pair, build_student, build_teacher, one_rank
from verl_vaopd.study.figures import HeldOut, Training, labels_of, misread_tokens
from verl_vaopd.study.options import digest
from verl_vaopd.study.sampling import Sampler
from verl_vaopd.tiny.accuracy import accuracy
from verl_vaopd.tiny.dilution.conversations import Conversations


@dataclass
class Study:
    """What the runs of a process share. models: of ``verl-vaopd tiny --task dilution``; held_out: figures of a
    measurement; every: updates between two; norms_at: updates whose gradients are told apart, of the first seed."""

    models: Path
    held_out: int = 200
    every: int = 10
    norms_at: tuple[int, ...] = (1, 20)
    seed: int = 0

    @cached_property
    def processor(self):
        return AutoProcessor.from_pretrained(self.models / "student")

    @cached_property
    def talk(self) -> Conversations:
        return Conversations(self.processor)

    @cached_property
    def teacher(self):
        return build_teacher(ARMS["opd"].config(str(self.models), 0))

    def do(self, run: Run, folder: Path) -> None:
        """Leave ``study.json``, ``updates.jsonl`` and, last, ``summary.json`` in ``folder``."""
        one_rank()
        started = time.monotonic()
        torch.manual_seed(run.seed)
        folder.mkdir(parents=True, exist_ok=True)
        told = {**run.record(), "held_out": self.held_out, "models": digest(self.models)}
        (folder / SETTINGS).write_text(json.dumps(told, indent=1))
        words, vocab_size = run.cell.words, len(self.processor.tokenizer)
        config = ARMS[run.arm].config(str(self.models), words)
        regime, learns = REGIMES[run.cell.regime], self.models / ARMS[run.arm].student
        student = build_student(str(learns), regime, run.cell.rate, run.updates)
        sampler = Sampler(learns, self.processor.tokenizer)
        pair = Pair(config, self.teacher, student, vocab_size)
        training = Training(self.processor, words, run.seed, pair.second_view, pair.shows_second_view)
        shown = pair.second_view if pair.shows_second_view else None
        held_out = HeldOut.of(self.talk, words, run.figures, self.held_out, self.seed, shown)
        generator = torch.Generator().manual_seed(run.seed)
        prompt, most = self.talk.prompts[words], words + ROOM
        with open(folder / UPDATES, "w") as log:

            def write(**record):
                log.write(json.dumps(record) + "\n")
                log.flush()

            for update in range(run.updates + 1):
                sampler.take(student.engine.module)
                if update % self.every == 0 or update == run.updates:
                    write(update=update, nll=self.nll(held_out, sampler))
                if update == run.updates:
                    break
                patches, original, degraded, asked = training.batch(run.prompts)
                answers = sampler.answers(prompt, patches, run.rollouts, most, generator)
                labels = [labels_of(row) for row in asked]
                rows = [
                    (
                        f"{place // run.rollouts}",
                        torch.cat([prompt, answer]),
                        len(answer),
                        misread_tokens(answer, labels[place // run.rollouts]),
                    )
                    for place, answer in enumerate(answers)
                ]
                texts = self.processor.tokenizer.batch_decode(answers, skip_special_tokens=True)
                rewards = [accuracy([text], [asked[place // run.rollouts]]) for place, text in enumerate(texts)]
                with_norms = run.seed == 1 and update + 1 in self.norms_at
                write(update=update + 1, **pair.update(rows, rewards, original, degraded, with_norms))
            right = self.accuracy(held_out, words, sampler)
            write(update=run.updates, accuracy=right)
        summary = {"accuracy": right, "seconds": round(time.monotonic() - started, 1)}
        (folder / DONE).write_text(json.dumps(summary))

    def nll(self, held_out: HeldOut, sampler: Sampler) -> float:
        """Mean negative log-likelihood of a visual token, nats, teacher-forced."""
        found = []
        for rows in torch.arange(len(held_out.ids)).split(50):
            given = (held_out.ids[rows], held_out.patches[rows], self.talk.image_start, held_out.digits[rows])
            found.append(-sampler.log_probs(*given))
        return float(torch.cat(found).mean())

    def accuracy(self, held_out: HeldOut, words: int, sampler: Sampler) -> float:
        """Share of greedy answers that are right."""
        answers = sampler.answers(self.talk.prompts[words], held_out.patches, 1, words + ROOM)
        texts = self.processor.tokenizer.batch_decode(answers, skip_special_tokens=True)
        return accuracy(texts, held_out.rows)
