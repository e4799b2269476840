"""Numbers going wrong: what is noticed in a step, and by which rule it is treated (docs/reliability.md).

Plain logic on what a step produced: the teacher's scores before the update, the record of ``metrics.jsonl`` after it.
What must be known of earlier steps is read from their records, so a resumed run goes on counting.
"""

import math
from statistics import median

from torch import Tensor

from verl_vaopd.runlog.alarm import SKIP, STOP, WARN, Alarm
from verl_vaopd.settings.config import VAOPDConfig

REPEAT = 10
"""Steps from one warning to the next of the same name."""
ZERO_VA = 1e-5
"""Nats; what two forwards of the same input may differ by."""
DRIFT_FACTOR, DRIFT_FLOOR, DRIFT_STEPS = 10, 1e-3, 5
"""A warning: above so many times the median of at least so many earlier steps, and above so many nats."""
KL_FACTOR, KL_FLOOR, KL_STEPS = 1.5, 1e-3, 20
"""A warning: the mean over so many steps is above so many times the lowest such mean, and by so many nats."""
REMEMBERED = ("updates/skipped", "drift/mean", "kl/mean", "alarms")


def scores_alarm(scores: dict[str, Tensor], mask: Tensor) -> Alarm | None:
    """Stop for scores of the teacher (name -> [N, T]; a method may have none) not finite on the mask [N, T]."""
    bad = {name: mask & ~values.isfinite() for name, values in scores.items()}
    rows = sorted({row for flags in bad.values() for row in flags.any(dim=1).nonzero().flatten().tolist()})
    if not rows:
        return None
    counts = ", ".join(f"{name} of {int(flags.sum())} tokens" for name, flags in bad.items() if flags.any())
    text = f"scores of the teacher are not finite ({counts}): check the weights in vaopd.teacher.path and its dtype"
    return Alarm("teacher_scores", STOP, text, rows)


def zero_va_alarm(score: Tensor, mask: Tensor, seen: list[bool], config: VAOPDConfig) -> Alarm | None:
    """Stop if no token of the step's rollouts with images has visual advantage (score [N, T] nats), unless that is
    allowed. ``seen``: N, whether a rollout's prompt has images; one without has none to see."""
    rows = [row for row, image in enumerate(seen) if image]
    if not rows or not config.degraded_view or config.allow_zero_va or score[rows].max() > ZERO_VA:
        return None
    text = (
        f"the visual advantage of all {int(mask[rows].sum())} tokens with an image is zero: the degraded images did "
        "not reach the teacher, or the teacher does not look at images. To go on all the same set "
        "vaopd.allow_zero_va=true"
    )
    return Alarm("zero_va", STOP, text)


def drift_limit_alarm(drift: float, limit: float | None) -> Alarm | None:
    """Stop if the mean difference of vLLM's and the trainer's log-probabilities (nats) is above ``vaopd.max_drift``."""
    if limit is None or not drift > limit:
        return None
    text = (
        f"log-probabilities of vLLM and of the trainer differ by {drift:.2e} nats on average "
        f"(vaopd.max_drift={limit}): they do not run the same model"
    )
    return Alarm("drift", STOP, text)


def loss_alarm(record: dict) -> Alarm | None:
    """Stop if the loss is not finite and the host has updated the student all the same; nothing is saved then."""
    if math.isfinite(record["loss"]) or record["updates/skipped"]:
        return None
    text = f"loss {record['loss']} with a gradient of norm {record['grad_norm']}: the student was updated all the same"
    return Alarm("loss", STOP, text)


class StepAlarms:
    """The alarms of finished steps.

    records: those of ``metrics.jsonl`` up to the step that comes next.
    """

    def __init__(self, config: VAOPDConfig, records: list[dict]):
        self.config = config
        self.history: list[dict] = []
        for record in records:
            if "loss" in record:
                self._remember(record)

    def of(self, record: dict) -> list[Alarm]:
        """What is wrong in a step's record, which then belongs to the history."""
        watches = (self._skipped, self._truncated, self._drift, self._kl)
        alarms = [alarm for watch in watches if (alarm := watch(record))]
        self._remember({**record, "alarms": [alarm.name for alarm in alarms]})
        return alarms

    def _remember(self, record: dict) -> None:
        self.history.append({name: record[name] for name in REMEMBERED if name in record})

    def _skipped(self, record: dict) -> Alarm | None:
        if not record["updates/skipped"]:
            return None
        in_a_row, limit = 1, self.config.max_skipped_steps
        while in_a_row <= len(self.history) and self.history[-in_a_row].get("updates/skipped"):
            in_a_row += 1
        text = (
            f"loss {record['loss']}, gradient norm {record['grad_norm']}: an update was skipped, weights and optimizer "
            f"are as before it; {in_a_row} such steps in a row, vaopd.max_skipped_steps={limit} end the run"
        )
        return Alarm("update_skipped", STOP if in_a_row >= limit else SKIP, text)

    def _truncated(self, record: dict) -> Alarm | None:
        if record["response_length/truncated"] < 1 or not self._due("all_truncated"):
            return None
        text = "every rollout reached data.max_response_length, none ended by itself: raise it, or look at what is said"
        return Alarm("all_truncated", WARN, text)

    def _drift(self, record: dict) -> Alarm | None:
        drift, earlier = record.get("drift/mean", math.nan), self._finite("drift/mean")
        if len(earlier) < DRIFT_STEPS or not drift > max(DRIFT_FLOOR, DRIFT_FACTOR * median(earlier)):
            return None
        text = (
            f"log-probabilities of vLLM and of the trainer differ by {drift:.2e} nats on average, "
            f"in earlier steps by {median(earlier):.2e}: vLLM may not have the student's weights"
        )
        return Alarm("drift", WARN, text) if self._due("drift") else None

    def _kl(self, record: dict) -> Alarm | None:
        kl = [*self._finite("kl/mean"), record.get("kl/mean", math.nan)]
        if len(kl) <= KL_STEPS or not math.isfinite(kl[-1]):
            return None
        totals = [sum(kl[:KL_STEPS])]
        for new, old in zip(kl[KL_STEPS:], kl, strict=False):
            totals.append(totals[-1] + new - old)
        now, lowest = totals[-1] / KL_STEPS, min(totals) / KL_STEPS
        if not now > max(KL_FACTOR * lowest, lowest + KL_FLOOR):
            return None
        text = (
            f"KL rises: {now:.4f} nats, mean over {KL_STEPS} steps, after {lowest:.4f} at its lowest: "
            "the student moves away from the teacher; a lower learning rate may help"
        )
        return Alarm("kl_rising", WARN, text) if self._due("kl_rising") else None

    def _finite(self, name: str) -> list[float]:
        values = (record.get(name) for record in self.history)
        return [value for value in values if value is not None and math.isfinite(value)]

    def _due(self, name: str) -> bool:
        return not any(name in record.get("alarms", ()) for record in self.history[1 - REPEAT :])
