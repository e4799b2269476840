"""The folder of a run: progress.log, metrics.jsonl, rollouts/, faults/, images/, student/, summary.json, curves.png."""

import hashlib
import json
import math
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from verl_vaopd.runlog.json_lines import read_json_lines

PROGRESS = "progress.log"
STOP = "stop"
SUMMARY = "summary.json"
CHOSEN = "vaopd_checkpoint.json"
"""In the exported student: which step it is of, and its held-out accuracy."""


def request_stop(output_dir: str) -> None:
    """Ask the run in ``output_dir`` to save after its current step and to end. Fit for a signal handler."""
    os.close(os.open(os.path.join(output_dir, STOP), os.O_CREAT | os.O_WRONLY))


def json_line(record: dict, stand_in: Callable[[float], str | None] = str) -> str:
    """A record of plain values and numpy or torch scalars as a line of JSON. It has no NaN and no infinity: these
    are written as ``stand_in`` of them, by default "nan", "inf" or "-inf"."""

    def plain(value):
        if isinstance(value, dict):
            return {key: plain(each) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return [plain(each) for each in value]
        value = value.item() if hasattr(value, "item") else value
        return stand_in(value) if isinstance(value, float) and not math.isfinite(value) else value

    return json.dumps(plain(record), default=str, allow_nan=False) + "\n"


@contextmanager
def naming(path: str) -> Iterator[None]:
    """An OSError of the block, such as that of a full disk, names ``path``: one of a write names nothing by itself."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from error


def read_records(path: str | os.PathLike) -> list[dict]:
    """The records of a ``metrics.jsonl``; without a last line that a killed run left unfinished."""
    return read_json_lines(path, torn_end=True)


class RunLog:
    """Appends to and closes the folder of one run.

    ``metrics.jsonl`` has one line per step, and one with no loss for the validation before training and for a step that
    an alarm ended; what is not finite is null. ``rollouts/step_N.jsonl`` and ``rollouts/validation_N.jsonl`` have one
    line per logged rollout, ``faults/step_N_NAME.jsonl`` one per rollout that an alarm concerns.
    """

    def __init__(self, output_dir: str):
        self.output_dir = output_dir
        self.metrics_path = os.path.join(output_dir, "metrics.jsonl")
        self.progress_path = os.path.join(output_dir, PROGRESS)
        self.stop_path = os.path.join(output_dir, STOP)
        os.makedirs(os.path.join(output_dir, "rollouts"), exist_ok=True)

    def say(self, text: str) -> None:
        """A line for the person who watches: to ``progress.log``, which ``verl-vaopd train`` shows as it grows."""
        with naming(self.progress_path), open(self.progress_path, "a") as f:
            f.write(f"{time.strftime('%H:%M:%S')}  {text}\n")

    @property
    def stop_requested(self) -> bool:
        """Whether :func:`request_stop` was called since the run began."""
        return os.path.exists(self.stop_path)

    def metrics(self, record: dict) -> None:
        with naming(self.metrics_path), open(self.metrics_path, "a") as f:
            f.write(json_line(record, stand_in=lambda _: None))

    def rollouts(self, step: int, rows: list[dict], kind: str = "step") -> None:
        if not rows:
            return
        path = os.path.join(self.output_dir, "rollouts", f"{kind}_{step}.jsonl")
        with naming(path), open(path, "w") as f:
            f.writelines(json_line(row) for row in rows)

    def alarm(self, step: int, name: str, text: str, rows: list[dict]) -> str:
        """Say an alarm and add the rollouts it concerns to ``faults/``. Returns the alarm with their rows' names."""
        name_of_file = os.path.join("faults", f"step_{step}_{name}.jsonl")
        path = os.path.join(self.output_dir, name_of_file)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with naming(path), open(path, "a") as f:
            f.writelines(json_line(row) for row in rows)
        ids = list(dict.fromkeys(str(row["id"]) for row in rows))
        more = f" and {len(ids) - 5} more" if len(ids) > 5 else ""
        told = f"step {step}: {text} (rows {', '.join(ids[:5])}{more}: {name_of_file})"
        self.say(f"ALARM {name}: {told}")
        return told

    def image(self, data: bytes) -> str:
        """Keep a WebP file, once however often it comes. Returns its path inside the run's folder."""
        name = f"images/{hashlib.sha256(data).hexdigest()[:16]}.webp"
        path = os.path.join(self.output_dir, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if not os.path.exists(path):
            with naming(path), open(path, "wb") as f:
                f.write(data)
        return name

    def read(self) -> list[dict]:
        return read_records(self.metrics_path) if os.path.exists(self.metrics_path) else []

    def truncate(self, step: int) -> None:
        """Keep the steps up to ``step``: a run resumed there logs the later ones again."""
        records = self.read()
        kept = [record for record in records if record["step"] < step or ("loss" in record and record["step"] == step)]
        if not os.path.exists(self.metrics_path):
            return
        with open(self.metrics_path + ".tmp", "w") as f:
            f.writelines(json.dumps(record) + "\n" for record in kept)
        os.replace(self.metrics_path + ".tmp", self.metrics_path)

    def save_to(self, checkpoint: str, record: dict) -> None:
        """Put the metrics so far and the best validation score into a checkpoint's folder.

        ``record``: of the step that is being saved, which is logged when the step has ended.
        """
        path = os.path.join(checkpoint, os.path.basename(self.metrics_path))
        if os.path.exists(self.metrics_path):
            shutil.copy(self.metrics_path, path)
        with open(path, "a") as f:
            f.write(json_line(record, stand_in=lambda _: None))
        if best := self.chosen():
            with open(os.path.join(checkpoint, CHOSEN), "w") as f:
                json.dump(best, f)

    def restore_from(self, checkpoint: str) -> None:
        """Take over what :meth:`save_to` left in the folder ``global_step_N``, where this run has nothing of its own.

        That is all, or the record of step N alone, if the run was killed between its save and its end. The best student
        comes from its checkpoint beside that one, if it is there.
        """
        metrics = os.path.join(checkpoint, os.path.basename(self.metrics_path))
        try:
            logged = self.read()
        except ValueError as error:
            os.replace(self.metrics_path, self.metrics_path + ".damaged")
            self.say(f"{error}; it is now {self.metrics_path}.damaged, and the checkpoint's copy is gone on from")
            logged = []
        if os.path.exists(metrics):
            saved = read_records(metrics)[-1]
            if not logged:
                shutil.copy(metrics, self.metrics_path)
            elif not any("loss" in record and record["step"] == saved["step"] for record in logged):
                self.truncate(saved["step"])
                self.metrics(saved)
        best = os.path.join(checkpoint, CHOSEN)
        if not self.chosen() and os.path.exists(best):
            with open(best) as f:
                chosen = json.load(f)
            self._export(chosen["step"], os.path.dirname(checkpoint), chosen["accuracy"])

    def finish(self, checkpoint_dir: str, planned_steps: int, **more: int) -> dict:
        """See that a student is exported (the best, else the newest), draw the curves, write and return the summary.

        ``more``: further entries of it.
        """
        records = self.read()
        chosen = self.chosen() or self._export_newest(checkpoint_dir)
        validated = [record for record in records if "val/accuracy" in record]
        steps = [record for record in records if "loss" in record]
        summary = {
            "steps": steps[-1]["step"] if steps else 0,
            "planned_steps": planned_steps,
            "student": os.path.join(self.output_dir, "student") if chosen else None,
            "student_step": chosen["step"] if chosen else None,
            "metrics": self.metrics_path,
            "figure": draw_curves(records, os.path.join(self.output_dir, "curves.png")) if steps else None,
            "seconds_per_step": sorted(r["time/step"] for r in steps)[len(steps) // 2] if steps else None,
            **more,
        }
        for name, record in (("before", validated[0]), ("after", validated[-1])) if validated else ():
            summary[name] = {
                "step": record["step"],
                "accuracy": record["val/accuracy"],
                "mean_va": record.get("val/va/mean"),
                "va_top10_share": record.get("val/va/top10_share"),
            }
        path = os.path.join(self.output_dir, SUMMARY)
        with open(path + ".tmp", "w") as f:
            json.dump(summary, f, indent=2)
        os.replace(path + ".tmp", path)
        return summary

    def keep_best(self, step: int, accuracy: float, checkpoint_dir: str) -> bool:
        """Export the student of ``step`` to ``student/`` if no earlier checkpoint was as good on the held-out problems.

        The earliest wins ties. Returns whether it was exported; a step without a checkpoint is no candidate.
        """
        best = self.chosen()
        if best and best["accuracy"] is not None and best["step"] != step and accuracy <= best["accuracy"]:
            return False
        return self._export(step, checkpoint_dir, accuracy) is not None

    def chosen(self) -> dict | None:
        """step and accuracy of the exported student."""
        target = os.path.join(self.output_dir, "student")
        if not os.path.exists(target) and os.path.exists(target + ".old"):  # a crash between two renames
            os.replace(target + ".old", target)
        path = os.path.join(target, CHOSEN)
        if not os.path.exists(path):
            return None
        with open(path) as f:
            return json.load(f)

    def _export_newest(self, checkpoint_dir: str) -> dict | None:
        tracker = os.path.join(checkpoint_dir, "latest_checkpointed_iteration.txt")
        if not os.path.exists(tracker):
            return None
        with open(tracker) as f:
            return self._export(int(f.read()), checkpoint_dir, None)

    def _export(self, step: int, checkpoint_dir: str, accuracy: float | None) -> dict | None:
        """Copy a checkpoint's Hugging Face folder to ``student/`` (hard links where the disk allows)."""
        return self.export(os.path.join(checkpoint_dir, f"global_step_{step}", "actor", "huggingface"), step, accuracy)

    def export(self, source: str, step: int, accuracy: float | None = None) -> dict | None:
        """Copy the Hugging Face folder ``source`` to ``student/``; None if it holds no model."""
        if not os.path.exists(os.path.join(source, "config.json")):
            return None
        target = os.path.join(self.output_dir, "student")
        shutil.rmtree(target + ".tmp", ignore_errors=True)
        shutil.copytree(source, target + ".tmp", copy_function=_link_or_copy)
        chosen = {"step": step, "accuracy": accuracy}
        with open(os.path.join(target + ".tmp", CHOSEN), "w") as f:
            json.dump(chosen, f)
        shutil.rmtree(target + ".old", ignore_errors=True)
        if os.path.exists(target):
            os.replace(target, target + ".old")
        os.replace(target + ".tmp", target)
        shutil.rmtree(target + ".old", ignore_errors=True)
        return chosen


@contextmanager
def shown_progress(output_dir: str, to: TextIO | None = None) -> Iterator[None]:
    """Print to ``to`` (default: stdout) the lines that are added to a run's ``progress.log`` while the block runs."""
    path = os.path.join(output_dir, PROGRESS)
    done = threading.Event()
    with open(path, "a+") as log:
        log.seek(0, os.SEEK_END)

        def follow():
            while True:
                last_look = done.wait(0.2)
                if text := log.read():
                    print(text, end="", file=to, flush=True)
                if last_look:
                    return

        thread = threading.Thread(target=follow, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        shutil.copy2(source, target)


def draw_curves(records: list[dict], path: str) -> str:
    """Loss, visual advantage and accuracy against steps. Returns ``path``."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    steps = [record for record in records if "loss" in record]
    validated = [record for record in records if "val/accuracy" in record]
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    figure.get_layout_engine().set(wspace=0.08)
    FigureCanvasAgg(figure)
    loss, va, accuracy = figure.subplots(1, 3)

    def line(axis, rows, name, label, **style):
        # No VA in a run without the degraded view, no loss in a step whose update was skipped.
        known = [row for row in rows if row.get(name) is not None]
        axis.plot([row["step"] for row in known], [row[name] for row in known], label=label, **style)

    distilled = any("kl/high" in row for row in steps)
    line(loss, steps, "loss", "loss", color="black")
    line(loss, steps, "kl/high", "KL, high-VA tokens", color="tab:red", alpha=0.7)
    line(loss, steps, "kl/low", "KL, low-VA tokens", color="tab:gray", alpha=0.7)
    loss.set(title="KL" if distilled else "Loss", xlabel="step", ylabel="nats per token")
    if distilled:  # never negative
        loss.set_yscale("log")
    line(va, steps, "va/mean", "training rollouts", color="tab:red", alpha=0.5)
    line(va, validated, "val/va/mean", "held-out rollouts", color="tab:red", marker="o")
    va.set(title="Visual advantage", xlabel="step", ylabel="mean over tokens, nats", ylim=(0, None))
    line(accuracy, steps, "accuracy", "training rollouts", color="tab:blue", alpha=0.5)
    line(accuracy, validated, "val/accuracy", "held-out", color="tab:blue", marker="o")
    accuracy.set(title="Accuracy", xlabel="step", ylabel="share of right answers", ylim=(0, 1))
    for axis in (loss, va, accuracy):
        axis.legend(frameon=False, fontsize=8)
        axis.grid(alpha=0.2)
    figure.savefig(path, dpi=120)
    return path


def summary_table(summary: dict) -> str:
    """The closing table of a run."""
    rows = [("", "before", "after")]
    if "before" in summary:
        before, after = summary["before"], summary["after"]
        rows += [
            ("step", f"{before['step']}", f"{after['step']}"),
            ("held-out accuracy", f"{before['accuracy']:.1%}", f"{after['accuracy']:.1%}"),
        ]
        if before["mean_va"] is not None:
            rows += [
                ("held-out mean VA, nats", f"{before['mean_va']:.4f}", f"{after['mean_va']:.4f}"),
                ("VA in the top 10% of tokens", f"{before['va_top10_share']:.1%}", f"{after['va_top10_share']:.1%}"),
            ]
    lines = [f"{name:<30}{left:>12}{right:>12}" for name, left, right in rows]
    if summary["student"]:
        lines.append(f"{'exported student, step':<30}{'':>12}{summary['student_step']:>12}")
    lines += [f"{name:<12}{summary[name]}" for name in ("student", "figure", "metrics") if summary[name]]
    return "\n".join(lines)
