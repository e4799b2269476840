"""The driver of a run: its workers, what it does at the start, the end and every save. The step is in ``step.py``."""

from functools import partial

import ray
import transfer_queue as tq
from omegaconf import open_dict
from verl.single_controller.ray import RayClassWithInitArgs, RayWorkerGroup
from verl.trainer.ppo.utils import Role
from verl.trainer.ppo.v1 import trainer_base
from verl.trainer.ppo.v1.trainer_base import register_trainer
from verl.trainer.ppo.v1.trainer_colocate_async import PPOTrainerColocateAsync
from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync
from verl.utils.config import omega_conf_to_dataclass
from verl.workers.rollout.replica import RolloutReplicaRegistry

from verl_vaopd.checks.identity import checkpoint_to_resume, models_of, write_models
from verl_vaopd.methods import method_of
from verl_vaopd.rollout.image_views import fetch_thumbnails
from verl_vaopd.runlog.gauges import TrainingGauges
from verl_vaopd.runlog.phases import Phases
from verl_vaopd.runlog.run_log import RunLog, summary_table
from verl_vaopd.runlog.time_left import TimeLeft
from verl_vaopd.runlog.token_log import TokenLog
from verl_vaopd.settings.config import VAOPDConfig
from verl_vaopd.settings.resumed import write_kept_settings
from verl_vaopd.trainer import checkpoints
from verl_vaopd.trainer.alarms import StepAlarms
from verl_vaopd.trainer.partial import PartialRollouts, prompts_on_their_way
from verl_vaopd.trainer.profiling import Profiling, nsight_settings
from verl_vaopd.trainer.step import TrainingStep
from verl_vaopd.trainer.tracking import start_trackers
from verl_vaopd.trainer.validation import Validation
from verl_vaopd.trainer.workers import TeacherWorker, VAOPDWorker, hidden_states_stay


def _replica_class():
    from verl_vaopd.rollout.prompt_server import PromptReplica  # imports vLLM

    return PromptReplica


class Driver(Validation, Profiling, TrainingStep):
    """Training on a trainer of verl: sample, score the views, weigh, update, sync."""

    def __init__(self, config):
        super().__init__(config)
        self.vaopd: VAOPDConfig = omega_conf_to_dataclass(config.vaopd)
        self.run_log = RunLog(self.vaopd.output_dir)
        self.phases = Phases(self.vaopd.output_dir, self.vaopd.hang_factor, self.vaopd.hang_limit)
        self.gauges = TrainingGauges(run=config.trainer.experiment_name)
        self.hidden_states_stay = hidden_states_stay(
            self.vaopd.teacher.placement, config.actor_rollout_ref.actor.ulysses_sequence_parallel_size
        )
        self.method = method_of(self.vaopd)
        actor = omega_conf_to_dataclass(config.actor_rollout_ref.actor)
        self.objective = self.method.objective(actor, config.actor_rollout_ref.rollout.temperature)
        self.mini_batches = config.data.train_batch_size // config.actor_rollout_ref.actor.ppo_mini_batch_size
        self._in_training = False
        self.asked = 0, 0  # a step, and for how many prompts it has asked
        self.stopped = False
        self._validation_va: dict[str, float] = {}
        # The host looks for finished rollouts every 2 s, which on small models is longer than the generation.
        self.replay_buffer.poll_interval = self.vaopd.poll_interval

    def _init_tokenizer(self):
        """After the host's: the log of rollouts, which decodes tokens."""
        super()._init_tokenizer()
        logged = self.vaopd.log_rollout_prompts, self.vaopd.log_validation_rollouts
        self.token_log = TokenLog(self.run_log, self.tokenizer, *logged, fetch_thumbnails)

    # ------------------------------------------------------------------ workers

    def _init_resource_pool_mgr(self):
        """After the host's: this package's worker class, the teacher's pool, and the settings workers need."""
        super()._init_resource_pool_mgr()
        self.role_worker_mapping[Role.ActorRollout] = ray.remote(VAOPDWorker)
        if self.method.teacher_views and self.vaopd.teacher.placement == "separate":
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
        if not self.method.teacher_hidden:
            route = "are not kept"
        placement = self.vaopd.teacher.placement if self.method.teacher_views else None
        teacher = f" and teacher ({placement}; hidden states {route})" if placement else ""
        self.run_log.say(f"{self.vaopd.method}: loading student{teacher}, starting vLLM")
        # The host names worker processes by random letters; in Ray's dashboard the name is to say what they hold.
        holds = "student_and_teacher_" if placement == "colocated" else "student_"
        trainer_base.RayWorkerGroup = partial(RayWorkerGroup, name_prefix=holds)
        RolloutReplicaRegistry.register("vllm", _replica_class)  # what the host starts vLLM with
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
                cls=ray.remote(TeacherWorker),
                config=self.vaopd,
                vocab_size=len(self.tokenizer),
                profiler=omega_conf_to_dataclass(self.config.actor_rollout_ref.actor.profiler),
            ),
            device_name=self.config.trainer.device,
            name_prefix="teacher_",
            **nsight_settings(self.config),
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

    def on_train_begin(self):
        super().on_train_begin()
        self.run_log.say(f"training from step {self.global_steps} to {self.total_training_steps}")
        self._in_training = True

    def fit(self, agent_loop_manager):
        """The host's loop; then, unless the run was asked to stop, the trained student and the summary of the run.

        The host's own trackers, a new run at each start, are left with what this package has no tracker for.
        """
        self.planned_steps, trainer = self.total_training_steps, self.config.trainer
        self.time_left = TimeLeft(self.planned_steps, trainer.test_freq, trainer.save_freq)
        self.trackers, trainer.logger = start_trackers(self.config, self.run_log, self.global_steps)
        failed = True
        try:
            super().fit(agent_loop_manager)
            self._after_fit()
            failed = False
        finally:
            self.trackers.close(failed)

    def _after_fit(self):
        self.phases.begin("end of the run")
        if self.stopped:
            step = self.total_training_steps
            self.run_log.say(f"stopped as asked after step {step}, which is saved; the same command goes on from there")
            return
        held, folder = sum(len(keys) for keys in tq.kv_list().values()), self.config.trainer.default_local_dir
        summary = self.run_log.finish(folder, self.planned_steps, transfer_queue_entries=held)
        self.trackers.table(summary["steps"], summary_table(summary))

    def on_step_end(self):
        """Before the host's: when the run was asked to stop, save and make this step the last."""
        trainer = self.config.trainer
        if self.run_log.stop_requested and self.global_steps < self.planned_steps:
            self.stopped = True
            self.total_training_steps = self.global_steps
            if trainer.save_freq < 1 or self.global_steps % trainer.save_freq:
                self._save_checkpoint()
        self.phases.begin(f"step {self.global_steps}, its weights to vLLM", of_a_step=True)
        super().on_step_end()

    def _save_checkpoint(self):
        """The host's, written aside and renamed when it is whole. The newest ones and the best are kept."""
        self.phases.begin(f"save of step {self.global_steps}")
        trainer = self.config.trainer
        folder, keep = trainer.default_local_dir, trainer.max_actor_ckpt_to_keep
        trainer.default_local_dir, trainer.max_actor_ckpt_to_keep = checkpoints.begin(folder), None
        try:
            super()._save_checkpoint()
            written = checkpoints.aside(folder, self.global_steps)
            write_models(written, **models_of(self.config, self.method))
            write_kept_settings(written, self.config, len(prompts_on_their_way()))
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


@register_trainer("vaopd_sync")
class VAOPDTrainer(Driver, PPOTrainerSync):
    """Every step waits for all of its rollouts, which are of the current student."""


@register_trainer("vaopd_colocate_async")
class PartialRolloutTrainer(PartialRollouts, Driver, PPOTrainerColocateAsync):
    """A step takes the first prompts whose rollouts are there (:mod:`verl_vaopd.trainer.partial`)."""
