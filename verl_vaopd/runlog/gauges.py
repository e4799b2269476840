"""Training metrics as Ray gauges, which every node's metrics agent exports for Prometheus.

A gauge ``loss`` is scraped as ``ray_vaopd_loss`` with a tag ``run`` (``trainer.experiment_name``);
scripts/monitoring has a scrape configuration and a Grafana dashboard.
"""

import math
from dataclasses import dataclass

from ray.util.metrics import Gauge

PHASES = ("gen", "teacher", "coefficients", "student", "update_weights", "save_checkpoint", "testing", "step")
"""Values of the tag ``phase`` of ``phase_seconds``."""


@dataclass(frozen=True)
class Exported:
    """A metric of ``metrics.jsonl`` and the gauge that shows it."""

    metric: str
    text: str

    @property
    def gauge(self) -> str:
        return "vaopd_" + self.metric.replace("/", "_")


METRICS = (
    Exported("step", "Training step."),
    Exported("loss", "Loss (Eq. 6), nats."),
    Exported("grad_norm", "Norm of the gradient before clipping."),
    Exported("lr", "Learning rate."),
    Exported("kl/mean", "Reverse KL, mean over response tokens, nats."),
    Exported("kl/high", "Reverse KL of the high-VA tokens, nats."),
    Exported("kl/low", "Reverse KL of the low-VA tokens, nats."),
    Exported("va/mean", "Visual advantage, mean over response tokens, nats."),
    Exported("va/top10_share", "Share of the visual advantage that the top 10% of tokens carry."),
    Exported("weights/rollout_max", "Largest rollout weight of the step."),
    Exported("weights/rollout_spread", "Largest minus smallest rollout weight of siblings, mean over prompts."),
    Exported("accuracy", "Accuracy of the training rollouts."),
    Exported("val/accuracy", "Accuracy on the held-out problems."),
    Exported("val/va/mean", "Visual advantage on the held-out problems, nats."),
    Exported("drift/mean", "Difference of vLLM's and the trainer's log-probabilities, mean, nats."),
    Exported("response_length/mean", "Tokens of a response, mean."),
    Exported("response_length/truncated", "Share of responses that reached the limit."),
    Exported("tokens_per_s", "Prompt and response tokens of the step's rollouts per second."),
)
PHASE_SECONDS = "vaopd_phase_seconds"


class TrainingGauges:
    """Sets the gauges of one run; call it where Ray is initialised."""

    def __init__(self, run: str):
        self._gauges = {each.metric: Gauge(each.gauge, each.text, tag_keys=("run",)) for each in METRICS}
        self._phases = Gauge(PHASE_SECONDS, "Seconds of a phase of the step.", tag_keys=("run", "phase"))
        for gauge in (*self._gauges.values(), self._phases):
            gauge.set_default_tags({"run": run})

    def set(self, record: dict) -> None:
        """Show a record of ``metrics.jsonl``. What it lacks, or what is not finite in it, keeps its last value."""
        for metric, gauge in self._gauges.items():
            if metric in record and math.isfinite(record[metric]):
                gauge.set(float(record[metric]))
        for phase in PHASES:
            if f"time/{phase}" in record:
                self._phases.set(float(record[f"time/{phase}"]), tags={"phase": phase})
