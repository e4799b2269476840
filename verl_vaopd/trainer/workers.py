"""Ray workers: the student with its rollout adapter, and the teacher, in one process per device or in two pools."""

import os
from functools import partial

import torch
import torch.distributed
from omegaconf import open_dict
from tensordict import TensorDict
from verl.single_controller.base.decorator import Dispatch, make_nd_compute_dataproto_dispatch_fn, register
from verl.utils import tensordict_utils as tu
from verl.utils.config import omega_conf_to_dataclass
from verl.utils.device import get_device_id, get_device_name
from verl.utils.memory_utils import aggressive_empty_cache
from verl.utils.profiler import DistProfiler, ProfilerConfig
from verl.workers.config import HFModelConfig, TrainingWorkerConfig
from verl.workers.engine_workers import ActorRolloutRefWorker, TrainingWorker

import verl_vaopd.student.engine
import verl_vaopd.teacher.engine  # noqa: F401  (both register their engines)
from verl_vaopd.methods import method_of
from verl_vaopd.model.head import load_lm_head
from verl_vaopd.platform.loopback import private_socket, register_bound_rendezvous
from verl_vaopd.rollout.image_views import fetch_views
from verl_vaopd.runlog.run_log import RunLog
from verl_vaopd.settings.config import VAOPDConfig
from verl_vaopd.settings.trained import frozen_parts


def init_process_group() -> None:
    """Have the ranks meet at MASTER_ADDR alone; the host reads where from the environment.

    On CPU, join the process group before the host does: it would ask for gloo twice for one device type.
    """
    register_bound_rendezvous()
    os.environ["DIST_INIT_METHOD"] = "bound://"
    if get_device_name() == "cpu" and not torch.distributed.is_initialized():
        torch.distributed.init_process_group("gloo", init_method="bound://")


def prompts_with_images(data: TensorDict, image_token_id: int) -> list[str]:
    """uids of the rows that hold image tokens. Rows that pad the batch to the ranks hold none."""
    has_image = [bool((ids == image_token_id).any()) for ids in data["input_ids"].unbind()]
    return [uid for uid, has in zip(list(data["uid"]), has_image, strict=True) if has]


def row_keys(data: TensorDict) -> list[tuple[str, bytes]]:
    """What tells rollouts apart; equal ones have equal hidden states."""
    return [
        (uid, ids.cpu().numpy().tobytes()) for uid, ids in zip(data["uid"], data["input_ids"].unbind(), strict=True)
    ]


class StudentTrainingWorker(TrainingWorker):
    """The host's training worker that fetches the images of its rows and holds its method's objective."""

    shows_second_view = False

    def __init__(self, config: TrainingWorkerConfig, frozen: tuple[str, ...] = ()):
        init_process_group()
        super().__init__(config)
        self.engine.frozen = frozen
        self.handed_over: dict[tuple[str, bytes], torch.Tensor] = {}

    def hand_over(self, data: TensorDict, teacher_hidden: torch.Tensor) -> None:
        """Take the teacher's hidden states of rows that this worker will train on next."""
        self.handed_over = dict(zip(row_keys(data), teacher_hidden.unbind(), strict=True))

    def _views(self, uids: list[str]) -> tuple[dict, dict]:
        """What the student sees of the prompts' images, and its second view of them, if it has one."""
        if self.shows_second_view:
            return fetch_views(uids, degraded=True, original=False)[1], {}
        return fetch_views(uids, degraded=self.engine.objective.views == 2)

    def attach_objective(self, config: VAOPDConfig, vocab_size: int, actor, temperature: float) -> None:
        """Give the engine what its method minimises, and for distillation the teacher's head.

        Args:
            actor: verl's actor config; temperature: of the rollouts.
        """
        engine, method = self.engine, method_of(config)
        engine.vocab_size, engine.chunk_size = vocab_size, config.chunk_size
        engine.objective = method.objective(actor, temperature)
        self.shows_second_view = method.shows_second_view
        if method.teacher_hidden:
            engine.teacher_head = load_lm_head(config.teacher.path).to(get_device_id(), engine._autocast_dtype)

    @register(dispatch_mode=make_nd_compute_dataproto_dispatch_fn(mesh_name="train"), blocking=False)
    def train_mini_batch(self, data: TensorDict) -> TensorDict:
        uids = prompts_with_images(data, self.engine.family.image_token_id)
        objective = self.engine.objective
        self.engine.vision, self.engine.second_view = self._views(uids)
        if "teacher_hidden" in objective.fields and "teacher_hidden" not in data.keys():
            hidden = [self.handed_over[key] for key in row_keys(data)]
            data["teacher_hidden"] = torch.nested.as_nested_tensor(hidden, layout=torch.jagged)
        try:
            return super().train_mini_batch(data)
        finally:
            self.engine.vision, self.engine.second_view, self.handed_over = {}, {}, {}


class TeacherWorker(TrainingWorker):
    """Frozen teacher on its own FSDP2 shards; built beside the student's worker or in a pool of its own."""

    def __init__(self, config: VAOPDConfig, vocab_size: int, profiler: ProfilerConfig | None = None):
        """``profiler``: of the worker's own; none where its process is the student's, which is recorded as one."""
        init_process_group()
        teacher = config.teacher
        super().__init__(
            TrainingWorkerConfig(
                model_type="vaopd_teacher",
                model_config=HFModelConfig(
                    path=teacher.path,
                    enable_gradient_checkpointing=False,
                    override_config={**teacher.override_config, "vaopd_layout": config.layout},
                ),
                engine_config=teacher.engine_config(),
                optimizer_config=None,
                checkpoint_config=None,
                profiler_config=profiler,
            )
        )
        self.engine.vocab_size = vocab_size
        self.engine.chunk_size = config.chunk_size
        self.engine.method = method_of(config)

    @register(dispatch_mode=make_nd_compute_dataproto_dispatch_fn(mesh_name="train"))
    @DistProfiler.annotate(color="olive", role="teacher_score")
    def score_views(self, data: TensorDict) -> TensorDict:
        """:meth:`score`, in host memory: what goes to TransferQueue."""
        return self.score(data).cpu()

    def score(self, data: TensorDict) -> TensorDict:
        """Score rollouts under both views.

        Returns:
            The fields of :meth:`TeacherEngine.forward_step`, row by row.
        """
        uids = prompts_with_images(data, self.engine.family.image_token_id)
        self.engine.vision, self.engine.degraded = fetch_views(uids, degraded=self.engine.views == 2)
        config = self.engine_config
        tu.assign_non_tensor(
            data,
            use_dynamic_bsz=config.use_dynamic_bsz,
            max_token_len_per_gpu=config.infer_max_token_len_per_gpu,
            micro_batch_size_per_gpu=config.infer_micro_batch_size_per_gpu,
        )
        self.engine.scores_only = tu.get(data, "scores_only", default=False)
        with self.engine.eval_mode():
            output = self.engine.infer_batch(data)
        self.engine.vision = self.engine.degraded = {}
        return tu.get_tensordict(output["model_output"])


class VAOPDWorker(ActorRolloutRefWorker):
    """The host's student-and-rollout worker; with ``placement=colocated`` it also holds the teacher's shard.

    One process per device then holds both models, as the host's own reference model does.
    """

    actor_worker_cls = StudentTrainingWorker

    @register(dispatch_mode=Dispatch.ONE_TO_ALL)
    def init_model(self):
        with open_dict(self.config.model.override_config) as overrides:
            overrides.vaopd_layout = self.config.vaopd.layout  # the engine takes it back out
        frozen = frozen_parts(self.config.vaopd.freeze, self.config.actor)
        self.actor_worker_cls = partial(StudentTrainingWorker, frozen=frozen)
        super().init_model()
        self.rollout.zmq_handle = private_socket(self.rollout.zmq_handle)  # as in rollout.weight_socket
        config: VAOPDConfig = omega_conf_to_dataclass(self.config.vaopd)
        vocab_size = self.config.vaopd_vocab_size
        actor = omega_conf_to_dataclass(self.config.actor)
        self.actor.attach_objective(config, vocab_size, actor, self.config.rollout.temperature)
        self.actor.engine.say = lambda text: RunLog(config.output_dir).say(text)
        if method_of(config).teacher_views and config.teacher.placement == "colocated":
            self.teacher = TeacherWorker(config, vocab_size)
            self.teacher.reset()
            self.set_dispatch_collect(mesh_name="teacher", **self.teacher.get_dispatch_collect())
        aggressive_empty_cache()  # as the host at its end, before vLLM measures what is free: the teacher came after it

    @register(dispatch_mode=make_nd_compute_dataproto_dispatch_fn(mesh_name="teacher"))
    @DistProfiler.annotate(color="olive", role="teacher_score")
    def score_views(self, data: TensorDict) -> TensorDict:
        """As :meth:`TeacherWorker.score_views`; hidden states stay in this process where its student trains on the same
        rows (see :func:`hidden_states_stay`)."""
        scores = self.teacher.score(data)
        stay = hidden_states_stay("colocated", self.config.actor.ulysses_sequence_parallel_size)
        if stay and "teacher_hidden" in scores.keys():
            self.actor.hand_over(data, scores.pop("teacher_hidden"))
        return scores.cpu()


def hidden_states_stay(placement: str, sequence_ranks: int) -> bool:
    """Whether the teacher's hidden states need not travel: one process holds both models, and rows are dealt out alike
    to both."""
    return placement == "colocated" and sequence_ranks == 1
