"""What happens in one step: sample, score the views, weigh, update the student."""

import math
import time
from contextlib import contextmanager

import transfer_queue as tq
from tensordict import NonTensorStack, TensorDict
from torch import Tensor
from transfer_queue import KVBatchMeta
from verl.utils.debug import marked_timer
from verl.utils.metric import reduce_metrics
from verl.utils.seqlen_balancing import log_seqlen_unbalance

from verl_vaopd.methods import Step
from verl_vaopd.methods.interface.checked import checked
from verl_vaopd.rollout.image_views import clear_views, prompts_with_images
from verl_vaopd.runlog.alarm import STOP, Alarm, StoppedByAlarm
from verl_vaopd.trainer.alarms import drift_limit_alarm, loss_alarm, scores_alarm, zero_va_alarm
from verl_vaopd.trainer.columns import key_order, read_tokens, select, uid_of, write_tokens
from verl_vaopd.trainer.order import order_rows

TEACHER_FIELDS = ["uid", "input_ids", "response_mask"]
STUDENT_FIELDS = [*TEACHER_FIELDS, "rollout_log_probs"]
OLDER = ("staleness/tokens", "older {:.0%}")
"""On a step's line where rollouts may be of earlier weights: the share of such tokens."""
PHASES = {  # name in metrics: as a person reads it, colour in a profile
    "gen": ("sampling", "red"),
    "teacher": ("scoring by the teacher", "olive"),
    "coefficients": ("weighing", "brown"),
    "student": ("update of the student", "red"),
}


class TrainingStep:
    """The step of a method, as a part of a trainer of verl: what the host's PPO step is replaced by."""

    def _next_train_batch(self, num_prompts: int | None = None) -> TensorDict:
        """Differs from the host's in the prompts' ids, which are random there: here the step, and a place among all
        that it asks for.

        Seeds and the order of rows hang on them, so a step that is done again is the same.
        """
        batch = super()._next_train_batch(num_prompts)
        step, place = self.asked if self.asked[0] == self.global_steps else (self.global_steps, 0)
        self.asked = step, place + len(batch)
        batch["uid"] = NonTensorStack.from_list([f"{step:08d}.{place + row:06d}" for row in range(len(batch))])
        return batch

    def _step_once(self, metrics: dict, timing_raw: dict, sample_batch_size: int) -> KVBatchMeta:
        """Replaces the host's PPO pipeline: no old log-probabilities, reference or critic."""
        with self._phase("gen", timing_raw):
            self.on_sample_begin()
            batch, sampling_metrics = self.replay_buffer.sample(
                global_steps=self.global_steps, partition_id="train", batch_size=sample_batch_size
            )
            metrics.update(sampling_metrics)
            self.on_sample_end()
        self._check_all_came(batch, sample_batch_size * self.config.actor_rollout_ref.rollout.n)
        batch = self._balance_batch(batch, metrics=metrics)
        if self.method.teacher_views:
            with self._phase("teacher", timing_raw):
                self._score_views(batch)
        with self._phase("coefficients", timing_raw):
            self._weigh(batch, metrics)
        with self._phase("student", timing_raw):
            self._update_student(batch, metrics)
        metrics.update(self._rollout_metrics(batch))
        # For a checkpoint, which is written before the step has ended.
        times = {**_times(timing_raw), "time/step": sum(timing_raw.values()), "time/wall": time.time()}
        self._record = {"step": self.global_steps, **metrics, **times}
        return batch

    def on_step_begin(self):
        super().on_step_begin()
        self.phases.begin(f"step {self.global_steps}", of_a_step=True)

    @contextmanager
    def _phase(self, name: str, timing_raw: dict):
        """A timed part of the step, by which a hang is named."""
        words, color = PHASES[name]
        self.phases.enter(words)
        with marked_timer(name, timing_raw, color=color):
            yield

    @staticmethod
    def _check_all_came(batch: KVBatchMeta, wanted: int) -> None:
        if len(batch) != wanted:
            raise RuntimeError(f"{len(batch)} rollouts came, {wanted} were asked for: progress.log names the rows")

    # ------------------------------------------------------------------ to the ranks

    def _get_required_batch_multiple(self, dp_size: int) -> int:
        """Differs from the host's: what both models' ranks divide; several mini-batches are checked at the start."""
        return math.lcm(dp_size, self.teacher_wg.world_size)

    def _balance_batch(self, batch: KVBatchMeta, metrics, logging_prefix="global_seqlen", keep_minibatch=False):
        """After the host's, which pads the batch: siblings back together, on one rank where counts allow."""
        own = set(batch.keys)
        batch = super()._balance_batch(batch, {})
        ranks = max(self.actor_rollout_wg._dispatch_info["actor"]) + 1
        self._deal_out(batch, own, ranks, self.mini_batches)
        tokens, share = [tag["seq_len"] for tag in batch.tags], len(batch) // ranks
        partitions = [list(range(rank * share, (rank + 1) * share)) for rank in range(ranks)]
        metrics.update(log_seqlen_unbalance(tokens, partitions, logging_prefix))
        return batch

    @staticmethod
    def _deal_out(batch: KVBatchMeta, own: set[str], ranks: int, mini_batches: int = 1) -> None:
        """Reorder a batch, in which rollouts stand as they came, as :func:`order_rows` says. ``own``: the keys of its
        real rows, which come before those that the host added."""
        places = {key: (key not in own, key_order(key)) for key in batch.keys}
        batch.reorder(sorted(range(len(batch)), key=lambda row: places[batch.keys[row]]))
        tokens = [tag["seq_len"] for tag in batch.tags]
        batch.reorder(order_rows([uid_of(key) for key in batch.keys], tokens, ranks, mini_batches))

    # ------------------------------------------------------------------ scores and weights

    def _score_views(self, batch: KVBatchMeta, scores_only: bool = False) -> None:
        """Teacher workers read rollouts and images from TransferQueue and write their scores back to it."""
        selected = select(batch, TEACHER_FIELDS)
        selected.extra_info["scores_only"] = scores_only
        self.teacher_wg.score_views(selected)

    def _read_step(self, batch: KVBatchMeta, names: tuple[str, ...]) -> tuple[Step, list[int]]:
        """What a method is given of a batch, and the places of its real rows. The teacher's scores are finite."""
        columns, mask, uids, real = read_tokens(batch, *names)
        scores = {name: columns[name] for name in self.method.score_names if name in columns}
        self._stop_on(scores_alarm(scores, mask), batch)
        return Step(columns, mask, uids, self.config, lambda: self._rollout_ids(batch, real)), real

    def _weigh(self, batch: KVBatchMeta, metrics: dict) -> None:
        """The method on the driver: a few numbers per token are read, one weight per token is written."""
        step, real = self._read_step(batch, self.method.reads)
        weighed = checked(self.method, self.method.weigh(step), step, self.objective)
        if weighed.evidence is not None and self.method.teacher_views == 2:
            with_images = prompts_with_images(step.prompts)
            seen = [prompt in with_images for prompt in step.prompts]
            self._stop_on(zero_va_alarm(weighed.evidence.score, step.mask, seen, self.vaopd), batch)
        # Each update is the mean over its own prompts.
        token_weights = weighed.student["token_weights"] * self.mini_batches
        write_tokens(batch, real, {**weighed.student, "token_weights": token_weights})
        metrics.update(weighed.metrics)
        weighed.per_token |= self._provenance(batch, metrics)
        self.token_log.training(self.global_steps, batch, real, step.prompts, weighed.per_rollout, weighed.per_token)

    def _provenance(self, batch: KVBatchMeta, metrics: dict) -> dict[str, Tensor]:
        """name -> [N, T], what the log says of where tokens come from: nothing, all are of the current student."""
        return {}

    def _rollout_ids(self, batch: KVBatchMeta, real: list[int]) -> list[bytes]:
        """What a random choice among a rollout's tokens hangs on: the step and the response, not uids or places."""
        data = tq.kv_batch_get(
            keys=[batch.keys[place] for place in real], partition_id=batch.partition_id, select_fields=["responses"]
        )
        step = self.global_steps.to_bytes(8, "little")
        return [step + response.numpy().tobytes() for response in data["responses"].unbind()]

    # ------------------------------------------------------------------ the update

    @property
    def _own_fields(self) -> list[str]:
        """The driver's columns that the student reads."""
        return ["token_weights", *(name for name in self.objective.fields if name != "teacher_hidden")]

    def _update_student(self, batch: KVBatchMeta, metrics: dict) -> None:
        """One optimiser step for each mini-batch on the method's objective."""
        actor = self.config.actor_rollout_ref.actor
        travels = ["teacher_hidden"] if self.method.teacher_hidden and not self.hidden_states_stay else []
        selected = select(batch, [*STUDENT_FIELDS, *self._own_fields, *travels])
        selected.extra_info.update(
            {
                "global_batch_size": len(batch),
                "mini_batch_size": len(batch) // self.mini_batches,
                "epochs": 1,
                "seed": actor.data_loader_seed,
                "dataloader_kwargs": {"shuffle": False},
            }
        )
        output = self.actor_rollout_wg.update_actor(selected)
        # Only the first mini-batch runs the weights that vLLM sampled with.
        first = {name: output["metrics"][name][0] for name in ("drift_sum", "drift_max", "drift_tokens")}
        skipped = sum(not math.isfinite(norm) for norm in output["metrics"]["grad_norm"])  # by the host
        student = reduce_metrics(output["metrics"])
        metrics.update(
            {
                "loss": student["loss"],
                "grad_norm": student["grad_norm"],
                "updates/skipped": skipped,
                "lr": student["lr"],
                **self.method.metrics(student),
                "perf/student_memory_gb": student["perf/max_memory_allocated_gb"],
            }
        )
        self._stop_on(loss_alarm(metrics), batch, weighed=True)
        if self.method.answers_by == "student" and first["drift_tokens"]:  # vLLM's log-probabilities are the student's
            metrics["drift/mean"] = first["drift_sum"] / first["drift_tokens"]
            metrics["drift/max"] = first["drift_max"]
            self._stop_on(drift_limit_alarm(metrics["drift/mean"], self.vaopd.max_drift), batch, weighed=True)

    # ------------------------------------------------------------------ alarms

    def _stop_on(self, alarm: Alarm | None, batch: KVBatchMeta, weighed: bool = False) -> None:
        """Stop in the middle of a step, whose record holds the alarm and no loss."""
        if alarm:
            self._log({"step": self.global_steps, "time/wall": time.time(), "alarms": [alarm.name]})
            self._sound(alarm, batch, weighed)

    def _sound(self, alarm: Alarm, batch: KVBatchMeta, weighed: bool) -> None:
        """Say an alarm and save its rollouts with their numbers per token: the teacher's and, once ``weighed``, those
        given to the student. Stop if that is the alarm's rule."""
        given = ("rollout_log_probs", *self._own_fields) if weighed else ()
        columns, _, uids, real = read_tokens(batch, *self.method.score_names, *given)
        told = self.token_log.alarm(self.global_steps, alarm, batch, real, uids, columns)
        self.trackers.alarm(self.global_steps, alarm.name, told)
        if alarm.rule == STOP:
            raise StoppedByAlarm(told)

    # ------------------------------------------------------------------ logging

    def _log(self, record: dict) -> None:
        """To ``metrics.jsonl``, to Ray's metrics and to trackers."""
        self.run_log.metrics(record)
        self.gauges.set(record)
        self.trackers.log(record)

    def _rollout_metrics(self, batch: KVBatchMeta) -> dict[str, float]:
        """Accuracy and lengths of the step's rollouts."""
        rewards, _, _, real = read_tokens(batch, "rm_scores")
        lengths = [batch.tags[place]["response_len"] for place in real]
        longest = self.config.actor_rollout_ref.rollout.response_length
        return {
            "accuracy": float(rewards["rm_scores"].sum(1).mean()),
            "response_length/mean": sum(lengths) / len(lengths),
            "response_length/truncated": sum(length >= longest for length in lengths) / len(lengths),
        }

    def _compute_metrics(self, batch: KVBatchMeta, metrics, timing_raw, global_steps, epoch):
        """Differs from the host's: no advantages or returns exist. Also the step's alarms and the end of its images."""
        metrics["step"] = global_steps
        metrics["epoch"] = epoch
        metrics.update(_times(timing_raw))
        metrics["tokens_per_s"] = sum(tag["seq_len"] for tag in batch.tags) / timing_raw["step"]
        metrics["time/wall"] = time.time()
        alarms = self.step_alarms.of(metrics)
        self._log(metrics | ({"alarms": [alarm.name for alarm in alarms]} if alarms else {}))
        told = (*self.method.shown, OLDER)
        shown = "".join(text.format(metrics[name]) + "  " for name, text in told if name in metrics)
        self.phases.step_took(timing_raw["step"] - timing_raw.get("save_checkpoint", 0.0))
        self.run_log.say(
            f"step {global_steps}/{self.planned_steps}  loss {metrics['loss']:.4f}  {shown}"
            f"accuracy {metrics['accuracy']:.1%}  {timing_raw['step']:.1f} s"
            f"{self.time_left.after(global_steps, timing_raw)}"
        )
        for alarm in alarms:
            self._sound(alarm, batch, weighed=True)
        clear_views([uid_of(key) for key in batch.keys])


def _times(timing_raw: dict[str, float]) -> dict[str, float]:
    return {f"time/{name}": seconds for name, seconds in timing_raw.items()}
