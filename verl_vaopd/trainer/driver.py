"""The driver: what happens in one step of visual-advantage on-policy distillation."""

import math
import time
from functools import partial

import ray
import torch
import transfer_queue as tq
from omegaconf import open_dict
from tensordict import NonTensorStack, TensorDict
from transfer_queue import KVBatchMeta
from verl.single_controller.ray import RayClassWithInitArgs, RayWorkerGroup
from verl.trainer.ppo.padding_utils import upsample_batch_to_divisible_size
from verl.trainer.ppo.utils import Role
from verl.trainer.ppo.v1 import trainer_base
from verl.trainer.ppo.v1.trainer_base import register_trainer
from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync
from verl.utils.config import omega_conf_to_dataclass
from verl.utils.debug import marked_timer
from verl.utils.metric import reduce_metrics
from verl.utils.seqlen_balancing import log_seqlen_unbalance

from verl_vaopd.algorithm import visual_advantage
from verl_vaopd.checks.identity import checkpoint_to_resume, models_of, write_models
from verl_vaopd.methods.advantages import group_advantages
from verl_vaopd.methods.coefficients import compute_coefficients, va_statistics
from verl_vaopd.rollout.image_views import clear_views
from verl_vaopd.runlog.gauges import TrainingGauges
from verl_vaopd.runlog.run_log import RunLog
from verl_vaopd.runlog.token_log import TokenLog
from verl_vaopd.settings.config import ANSWERED_BY_TEACHER, DISTILLATION, POLICY_GRADIENT, VAOPDConfig
from verl_vaopd.trainer import checkpoints
from verl_vaopd.trainer.alarms import (
    STOP,
    Alarm,
    StepAlarms,
    StoppedByAlarm,
    drift_limit_alarm,
    loss_alarm,
    scores_alarm,
    zero_va_alarm,
)
from verl_vaopd.trainer.columns import key_order, read_tokens, select, uid_of, write_tokens
from verl_vaopd.trainer.order import order_rows
from verl_vaopd.trainer.step_metrics import kl_metrics, policy_metrics, shown, sibling_spread
from verl_vaopd.trainer.workers import TeacherWorker, VAOPDWorker, hidden_states_stay

TEACHER_FIELDS = ["uid", "input_ids", "response_mask"]
STUDENT_FIELDS = [*TEACHER_FIELDS, "rollout_log_probs", "token_weights"]
SCORE_FIELDS = {"sampled": ("logp_original", "logp_pixelated"), "distribution": ("view_kl", "view_gain")}


@register_trainer("vaopd")
class VAOPDTrainer(PPOTrainerSync):
    """Synchronous distillation on verl's trainer: sample, score two views, weigh, update, sync.

    Built by :mod:`verl_vaopd.launch.task_runner`, which leaves ``trainer.v1.trainer_mode`` at "sync": under any other
    name the host treats a trainer as asynchronous.
    """

    def __init__(self, config):
        super().__init__(config)
        self.vaopd: VAOPDConfig = omega_conf_to_dataclass(config.vaopd)
        self.run_log = RunLog(self.vaopd.output_dir)
        self.gauges = TrainingGauges(run=config.trainer.experiment_name)
        self.hidden_states_stay = hidden_states_stay(
            self.vaopd.teacher.placement, config.actor_rollout_ref.actor.ulysses_sequence_parallel_size
        )
        self._own_field = "high_va" if self.vaopd.method in DISTILLATION else "advantages"
        self.mini_batches = config.data.train_batch_size // config.actor_rollout_ref.actor.ppo_mini_batch_size
        self._in_training = False
        self.stopped = False
        self._validation_va: dict[str, float] = {}
        # The host looks for finished rollouts every 2 s, which on small models is longer than the generation.
        self.replay_buffer.poll_interval = self.vaopd.poll_interval

    def _init_tokenizer(self):
        """After the host's: the log of rollouts, which decodes tokens."""
        super()._init_tokenizer()
        self.token_log = TokenLog(self.run_log, self.tokenizer, self.vaopd)

    def _build_replay_buffer(self):
        """The host's, told to hand validation rollouts to the teacher before the host drops them."""
        replay_buffer = super()._build_replay_buffer()
        sample = replay_buffer.sample

        def sample_and_score(global_steps, partition_id, batch_size):
            batch, metrics = sample(global_steps=global_steps, partition_id=partition_id, batch_size=batch_size)
            if partition_id == "val":
                self._check_all_came(batch, batch_size * self.config.actor_rollout_ref.rollout.val_kwargs.n)
                self._score_validation(batch)
            return batch, metrics

        replay_buffer.sample = sample_and_score
        return replay_buffer

    # ------------------------------------------------------------------ workers

    def _init_resource_pool_mgr(self):
        """After the host's: this package's worker class, the teacher's pool, and the settings workers need."""
        super()._init_resource_pool_mgr()
        self.role_worker_mapping[Role.ActorRollout] = ray.remote(VAOPDWorker)
        if self.vaopd.uses_teacher and self.vaopd.teacher.placement == "separate":
            teacher = self.vaopd.teacher
            self.resource_pool_manager.resource_pool_spec["teacher_pool"] = [teacher.n_gpus_per_node] * teacher.nnodes
            self.mapping[Role.TeacherModel] = "teacher_pool"
        with open_dict(self.config):
            # The host hands workers this section only.
            self.config.actor_rollout_ref.vaopd = self.config.vaopd
            self.config.actor_rollout_ref.vaopd_vocab_size = len(self.tokenizer)

    def _setup(self):
        """The host's; then the teacher's worker group, if it has one of its own."""
        route = "stay" if self.hidden_states_stay else "go through TransferQueue"
        placement = self.vaopd.teacher.placement if self.vaopd.uses_teacher else None
        teacher = f" and teacher ({placement}; hidden states {route})" if placement else ""
        self.run_log.say(f"{self.vaopd.method}: loading student{teacher}, starting vLLM")
        # The host names worker processes by random letters; in Ray's dashboard the name is to say what they hold.
        holds = "student_and_teacher_" if placement == "colocated" else "student_"
        trainer_base.RayWorkerGroup = partial(RayWorkerGroup, name_prefix=holds)
        try:
            super()._setup()
        finally:
            trainer_base.RayWorkerGroup = RayWorkerGroup
        if placement != "separate":
            self.teacher_wg = self.actor_rollout_wg  # without a teacher nothing asks it to score
            return
        self.teacher_wg = RayWorkerGroup(
            resource_pool=self.resource_pool_manager.get_resource_pool(Role.TeacherModel),
            ray_cls_with_init=RayClassWithInitArgs(
                cls=ray.remote(TeacherWorker), config=self.vaopd, vocab_size=len(self.tokenizer)
            ),
            device_name=self.config.trainer.device,
            name_prefix="teacher_",
        )
        self.teacher_wg.reset()

    def on_init_end(self):
        """After the host's first weight sync: what a checkpoint holds of the log of its run; forget logged steps that a
        resumed run will do again."""
        super().on_init_end()
        if self.global_steps:
            self.run_log.restore_from(str(checkpoint_to_resume(self.config).absolute()))
        if not self.config.trainer.val_only:
            self.run_log.truncate(self.global_steps)
        self.step_alarms = StepAlarms(self.vaopd, self.run_log.read())

    def on_validate_begin(self):
        self.run_log.say(f"validating on {len(self.val_dataset)} held-out problems")

    def on_train_begin(self):
        super().on_train_begin()
        self.run_log.say(f"training from step {self.global_steps} to {self.total_training_steps}")
        self._in_training = True

    def fit(self, agent_loop_manager):
        """The host's loop; then, unless the run was asked to stop, the trained student and the summary of the run."""
        self.planned_steps = self.total_training_steps
        super().fit(agent_loop_manager)
        if self.stopped:
            step = self.total_training_steps
            self.run_log.say(f"stopped as asked after step {step}, which is saved; the same command goes on from there")
            return
        held = sum(len(keys) for keys in tq.kv_list().values())
        self.run_log.finish(self.config.trainer.default_local_dir, self.planned_steps, transfer_queue_entries=held)

    def on_step_end(self):
        """Before the host's: when the run was asked to stop, save and make this step the last."""
        trainer = self.config.trainer
        if self.run_log.stop_requested and self.global_steps < self.planned_steps:
            self.stopped = True
            self.total_training_steps = self.global_steps
            if trainer.save_freq < 1 or self.global_steps % trainer.save_freq:
                self._save_checkpoint()
        super().on_step_end()

    def _save_checkpoint(self):
        """The host's, written aside and renamed when it is whole. The newest ones and the best are kept."""
        trainer = self.config.trainer
        folder, keep = trainer.default_local_dir, trainer.max_actor_ckpt_to_keep
        trainer.default_local_dir, trainer.max_actor_ckpt_to_keep = checkpoints.begin(folder), None
        try:
            super()._save_checkpoint()
            written = checkpoints.aside(folder, self.global_steps)
            write_models(written, **models_of(self.config, self.vaopd))
            self.run_log.save_to(written, self._record)
        except (OSError, ray.exceptions.RayTaskError) as error:
            reason = getattr(error, "cause", error)
            raise RuntimeError(
                f"the checkpoint of step {self.global_steps} cannot be written to {folder}: {reason}"
            ) from error
        finally:
            trainer.default_local_dir, trainer.max_actor_ckpt_to_keep = folder, keep
        best = self.run_log.chosen()
        checkpoints.publish(folder, self.global_steps, keep, best["step"] if best else None)

    # ------------------------------------------------------------------ one step

    def _next_train_batch(self, num_prompts: int | None = None) -> TensorDict:
        """Differs from the host's in the prompts' ids, which are random there: here step and place in the batch.

        Seeds and the order of rows hang on them, so a step that is done again is the same.
        """
        batch = super()._next_train_batch(num_prompts)
        uids = [f"{self.global_steps:08d}.{place:06d}" for place in range(len(batch))]
        batch["uid"] = NonTensorStack.from_list(uids)
        return batch

    def _step_once(self, metrics: dict, timing_raw: dict, sample_batch_size: int) -> KVBatchMeta:
        """Replaces the host's PPO pipeline: no old log-probabilities, advantages, reference or critic."""
        with marked_timer("gen", timing_raw, color="red"):
            self.on_sample_begin()
            batch, sampling_metrics = self.replay_buffer.sample(
                global_steps=self.global_steps, partition_id="train", batch_size=sample_batch_size
            )
            metrics.update(sampling_metrics)
            self.on_sample_end()
        self._check_all_came(batch, sample_batch_size * self.config.actor_rollout_ref.rollout.n)
        batch = self._balance_batch(batch, metrics=metrics)
        if self.vaopd.uses_teacher:
            with marked_timer("teacher", timing_raw, color="olive"):
                self._score_views(batch)
        with marked_timer("coefficients", timing_raw, color="brown"):
            write = self._write_advantages if self.vaopd.method in POLICY_GRADIENT else self._write_coefficients
            write(batch, metrics)
        with marked_timer("student", timing_raw, color="red"):
            self._update_student(batch, metrics)
        metrics.update(self._rollout_metrics(batch))
        # For a checkpoint, which is written before the step has ended.
        times = {**_times(timing_raw), "time/step": sum(timing_raw.values()), "time/wall": time.time()}
        self._record = {"step": self.global_steps, **metrics, **times}
        return batch

    @staticmethod
    def _check_all_came(batch: KVBatchMeta, wanted: int) -> None:
        if len(batch) != wanted:
            raise RuntimeError(f"{len(batch)} rollouts came, {wanted} were asked for: progress.log names the rows")

    def _get_required_batch_multiple(self, dp_size: int) -> int:
        """Differs from the host's: what both models' ranks divide; several mini-batches are checked at the start."""
        return math.lcm(dp_size, self.teacher_wg.world_size)

    def _balance_batch(self, batch: KVBatchMeta, metrics, logging_prefix="global_seqlen", keep_minibatch=False):
        """After the host's, which pads the batch: siblings back together, on one rank where counts allow."""
        own = set(batch.keys)
        batch = super()._balance_batch(batch, {})
        # The order in which rollouts came is chance.
        places = {key: (key not in own, key_order(key)) for key in batch.keys}
        batch.reorder(sorted(range(len(batch)), key=lambda row: places[batch.keys[row]]))
        ranks = max(self.actor_rollout_wg._dispatch_info["actor"]) + 1
        tokens = [tag["seq_len"] for tag in batch.tags]
        order = order_rows([uid_of(key) for key in batch.keys], tokens, ranks, self.mini_batches)
        batch.reorder(order)
        share = len(order) // ranks
        partitions = [order[rank * share : (rank + 1) * share] for rank in range(ranks)]
        metrics.update(log_seqlen_unbalance(tokens, partitions, logging_prefix))
        return batch

    def _score_views(self, batch: KVBatchMeta, scores_only: bool = False) -> None:
        """Teacher workers read rollouts and images from TransferQueue and write their scores back to it."""
        selected = select(batch, TEACHER_FIELDS)
        selected.extra_info["scores_only"] = scores_only
        self.teacher_wg.score_views(selected)

    def _read_scores(self, batch: KVBatchMeta) -> tuple[dict, torch.Tensor, list[str], list[int]]:
        """The teacher's two scores, named as :func:`compute_coefficients` takes them; see :func:`read_tokens`."""
        scores, mask, uids, real = read_tokens(batch, *SCORE_FIELDS[self.vaopd.score])
        self._stop_on(scores_alarm(scores, mask), batch)
        if "view_gain" in scores:  # Eq. 2 takes the difference of the two log-probabilities, which this is
            gain = scores.pop("view_gain")
            scores |= {"logp_original": gain, "logp_pixelated": torch.zeros_like(gain)}
        return scores, mask, uids, real

    def _write_coefficients(self, batch: KVBatchMeta, metrics: dict) -> None:
        """Eq. 2-6 on the driver: reads two scalars per token, writes one coefficient and one bit."""
        scores, mask, uids, real = self._read_scores(batch)
        rollout_ids = self._rollout_ids(batch, real) if self.vaopd.mask_tokens != "none" else ()
        result = compute_coefficients(
            **scores, response_mask=mask, prompt_ids=uids, config=self.vaopd, rollout_ids=rollout_ids
        )
        self._stop_on(zero_va_alarm(result.score, mask, self.vaopd), batch)
        # Each update is the mean over its own prompts.
        write_tokens(batch, real, {"token_weights": result.coefficients * self.mini_batches, "high_va": result.high_va})
        if self.vaopd.scores_va:
            metrics.update(self._va_statistics(result.va, result.score, mask))
            metrics["va/zero_rollouts"] = float((result.mean_score == 0).float().mean())
        metrics["weights/rollout_max"] = float(result.rollout_weights.max())
        metrics["weights/rollout_spread"] = float(sibling_spread(result.rollout_weights, uids))
        per_token = {"va": result.va, "coefficient": result.coefficients, "high_va": result.high_va.int()}
        if self.vaopd.score == "distribution":
            per_token["view_kl"] = result.score
        self.token_log.training(
            self.global_steps, batch, real, uids, {"rollout_weight": result.rollout_weights}, per_token
        )

    def _write_advantages(self, batch: KVBatchMeta, metrics: dict) -> None:
        """verl's GRPO on the driver: reads the rewards, writes one advantage and one weight per token."""
        rewards, mask, uids, real = read_tokens(batch, "rm_scores")
        mode, by_std = self.config.actor_rollout_ref.actor.loss_agg_mode, self.config.algorithm.norm_adv_by_std_in_grpo
        result = group_advantages(rewards["rm_scores"], mask, uids, mode, by_std)
        write_tokens(batch, real, {"token_weights": result.weights, "advantages": result.advantages})
        per_rollout = result.advantages[:, 0]
        metrics["policy/advantage_abs"] = float(per_rollout.abs().mean())
        metrics["policy/no_signal"] = float((per_rollout == 0).float().mean())
        per_token = {"coefficient": result.weights * result.advantages}
        self.token_log.training(self.global_steps, batch, real, uids, {"advantage": per_rollout}, per_token)

    def _rollout_ids(self, batch: KVBatchMeta, real: list[int]) -> list[bytes]:
        """What a random choice among a rollout's tokens hangs on: the step and the response, not uids or places."""
        data = tq.kv_batch_get(
            keys=[batch.keys[place] for place in real], partition_id=batch.partition_id, select_fields=["responses"]
        )
        step = self.global_steps.to_bytes(8, "little")
        return [step + response.numpy().tobytes() for response in data["responses"].unbind()]

    def _va_statistics(self, va, score, mask) -> dict[str, float]:
        """VA of Eq. 2, in every run that scores two views; beside it the score that was used, where it is another."""
        other = {} if self.vaopd.score == "sampled" else va_statistics(score, mask)
        return va_statistics(va, mask) | {name.replace("va/", "va_distribution/"): v for name, v in other.items()}

    def _update_student(self, batch: KVBatchMeta, metrics: dict) -> None:
        """One optimiser step for each mini-batch on sum(coefficient * KL_t)."""
        actor = self.config.actor_rollout_ref.actor
        distils = self.vaopd.method in DISTILLATION
        travels = ["teacher_hidden"] if distils and not self.hidden_states_stay else []
        selected = select(batch, [*STUDENT_FIELDS, self._own_field, *travels])
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
        first = {name: output["metrics"][name][0] for name in ("drift_sum", "drift_max", "tokens")}
        skipped = sum(not math.isfinite(norm) for norm in output["metrics"]["grad_norm"])  # by the host
        student = reduce_metrics(output["metrics"])
        metrics.update(
            {
                "loss": student["loss"],
                "grad_norm": student["grad_norm"],
                "updates/skipped": skipped,
                "lr": student["lr"],
                **(kl_metrics(student) if distils else policy_metrics(student)),
                "perf/student_memory_gb": student["perf/max_memory_allocated_gb"],
            }
        )
        self._stop_on(loss_alarm(metrics), batch, weighed=True)
        if self.vaopd.method not in ANSWERED_BY_TEACHER:  # vLLM's log-probabilities are the student's
            metrics["drift/mean"] = first["drift_sum"] / first["tokens"]
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
        names = SCORE_FIELDS[self.vaopd.score] if self.vaopd.uses_teacher else ()
        given = ("rollout_log_probs", "token_weights", self._own_field) if weighed else ()
        columns, _, uids, real = read_tokens(batch, *names, *given)
        told = self.token_log.alarm(self.global_steps, alarm, batch, real, uids, columns)
        if alarm.rule == STOP:
            raise StoppedByAlarm(told)

    # ------------------------------------------------------------------ validation

    def _score_validation(self, batch: KVBatchMeta) -> None:
        """VA of held-out rollouts, kept for :meth:`_validate`."""
        uids = [uid_of(key) for key in batch.keys]
        if not self.vaopd.scores_va:
            clear_views(uids)
            return
        offloaded = self.config.actor_rollout_ref.rollout.free_cache_engine
        if offloaded:
            self.checkpoint_manager.sleep_replicas()
        # The dispatch wants equal shares: the host adds rows that nothing counts.
        whole = KVBatchMeta(partition_id=batch.partition_id, keys=list(batch.keys), tags=list(batch.tags))
        whole = upsample_batch_to_divisible_size(whole, self.teacher_wg.world_size, self.tokenizer.eos_token_id)
        self._score_views(whole, scores_only=True)
        if added := [key for key in whole.keys if key not in set(batch.keys)]:
            tq.kv_clear(keys=added, partition_id=batch.partition_id)
        if offloaded:
            self.checkpoint_manager.update_weights(self.global_steps)
        scores, mask, *_ = self._read_scores(batch)
        score = scores.pop("view_kl", None)
        va = visual_advantage(**scores, response_mask=mask)
        self._validation_va = self._va_statistics(va, score, mask)
        per_token = {"va": va} if score is None else {"va": va, "view_kl": score}
        self.token_log.validation(self.global_steps, batch, per_token)
        clear_views(uids)

    def _validate(self) -> dict[str, float]:
        metrics = super()._validate()
        accuracy = [v for k, v in metrics.items() if k.startswith("val-core/") and "/acc/mean@" in k]
        reply = {f"val/{name}": value for name, value in self._validation_va.items()}
        reply["val/accuracy"] = sum(accuracy) / len(accuracy)
        va = f", mean VA {reply['val/va/mean']:.4f} nats" if self._validation_va else ""
        # What is only evaluated may have been trained before, by supervised fine-tuning.
        trained = self.run_log.chosen() if self.config.trainer.val_only else None
        step = trained["step"] if trained else self.global_steps
        self.run_log.say(f"validation at step {step}: accuracy {reply['val/accuracy']:.1%}{va}")
        if self._in_training:  # the host merges the metrics into the step's
            self.run_log.keep_best(self.global_steps, reply["val/accuracy"], self.config.trainer.default_local_dir)
        else:
            self._log({"step": step, "time/wall": time.time(), **reply})
        return {**metrics, **reply}

    # ------------------------------------------------------------------ logging

    def _log(self, record: dict) -> None:
        """To ``metrics.jsonl`` and to Ray's metrics."""
        self.run_log.metrics(record)
        self.gauges.set(record)

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
        self.run_log.say(
            f"step {global_steps}/{self.planned_steps}  loss {metrics['loss']:.4f}  {shown(metrics)}"
            f"accuracy {metrics['accuracy']:.1%}  {timing_raw['step']:.1f} s"
        )
        for alarm in alarms:
            self._sound(alarm, batch, weighed=True)
        clear_views([uid_of(key) for key in batch.keys])


def _times(timing_raw: dict[str, float]) -> dict[str, float]:
    return {f"time/{name}": seconds for name, seconds in timing_raw.items()}
