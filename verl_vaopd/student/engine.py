"""FSDP student engine: minimises its method's objective, a weighted sum over response tokens."""

from contextlib import nullcontext
from dataclasses import replace

import torch
from tensordict import TensorDict
from verl.utils import tensordict_utils as tu
from verl.utils.device import get_device_id, get_device_name
from verl.utils.metric import Metric
from verl.workers.engine.base import EngineRegistry
from verl.workers.engine.fsdp.transformer_impl import FSDPEngineWithLMHead
from verl.workers.engine.utils import postprocess_batch_func

from verl_vaopd.methods.objectives import Distillation, LogLikelihood, Outcome, PolicyGradient
from verl_vaopd.model.forward import install_forward
from verl_vaopd.model.micro_batches import agreed_plan
from verl_vaopd.model.packing import Batch, Layout, Row, collate
from verl_vaopd.student.checkpoint import ShardedCheckpoint

DEVICES = ["cuda", "npu", "cpu"]


class PackedQwen3VLEngine(FSDPEngineWithLMHead):
    """What the student's and the teacher's engine share: module, micro-batches and one forward of rows."""

    views = 1  # under which each row runs in one forward

    def _build_module(self):
        # The registry key of this engine is not a model type of the host: it loads what "language_model" loads.
        self.model_config.model_type = "language_model"
        # The host would slice the inputs for sequence parallelism; this package's attention and packing do.
        ranks, self.ulysses_sequence_parallel_size = self.ulysses_sequence_parallel_size, 1
        module = super()._build_module()
        self.ulysses_sequence_parallel_size = ranks
        if module.config.model_type != "qwen3_vl":
            raise ValueError(
                f"{self.model_config.path}: model type {module.config.model_type!r} is not supported; "
                "teacher and student must be Qwen3-VL (qwen3_vl)"
            )
        heads = module.config.text_config.num_key_value_heads
        if heads % ranks:
            raise ValueError(
                f"ulysses_sequence_parallel_size={ranks}: must divide the {heads} key-value heads of "
                f"{self.model_config.path}"
            )
        self.layout = Layout.of(module.config)
        install_forward(module)
        return module

    def forward_backward_batch(self, data: TensorDict, loss_function, forward_only=False):
        """Differs from the host's: a micro-batch holds siblings together and counts their prompt once, and nothing is
        normalised by token counts (the token weights hold every normalisation)."""
        if tu.get_non_tensor_data(data, key="use_dynamic_bsz", default=True):
            budget = data["max_token_len_per_gpu"] * self.ulysses_sequence_parallel_size // self.views
            plan = agreed_plan(rows_of(data, self.vision), budget, self.get_data_parallel_group())
        else:
            plan = torch.arange(len(data)).split(data["micro_batch_size_per_gpu"])
            plan = [indices.tolist() for indices in plan]
        outputs = []
        for number, indices in enumerate(plan):
            last = number == len(plan) - 1
            sync = nullcontext() if forward_only else self._gradient_sync_context(is_last_micro_batch=last)
            with torch.set_grad_enabled(not forward_only), sync, torch.profiler.record_function(f"micro_batch{number}"):
                micro_batch = tu.index_select_tensor_dict(data, indices)
                loss, output = self.forward_step(micro_batch, loss_function, forward_only)
                if not forward_only:
                    loss.backward()
            outputs.append(output)
        tu.assign_non_tensor(data, use_dynamic_bsz=True)  # the outputs are in the plan's order: have them put back
        return postprocess_batch_func(outputs, plan, data)

    def run_rows(self, rows: list[Row], head_fn):
        """One forward over ``rows``. Returns the :class:`Batch` and what ``head_fn(batch, hidden, head)`` returns."""
        batch = collate(rows, self.layout, get_device_id(), self.ulysses_parallel_group)
        dtype = self._autocast_dtype
        autocast = nullcontext() if dtype == torch.float32 else torch.autocast(get_device_name(), dtype=dtype)
        with autocast:
            return batch, self.module(**batch.model_inputs, head_fn=lambda h, w: head_fn(batch, h, w))


@EngineRegistry.register(model_type="vaopd_student", backend=["fsdp2"], device=DEVICES)
class StudentEngine(PackedQwen3VLEngine):
    """Set by its worker: ``objective`` (methods/objectives.py), ``vision`` and, for an objective of two views,
    ``second_view`` (prompt uid -> ImageInputs), ``vocab_size``, ``chunk_size``; for distillation ``teacher_head``
    [rows, Dt]."""

    objective: Distillation | PolicyGradient | LogLikelihood = Distillation()
    second_view: dict = {}

    def initialize(self):
        """After the host's: checkpoints that another number of ranks can load."""
        super().initialize()
        self.checkpoint_manager = ShardedCheckpoint(
            model=self.module,
            optimizer=self.optimizer,
            lr_scheduler=self.lr_scheduler,
            processing_class=self.model_config.get_processor(),
            checkpoint_config=self.checkpoint_config,
        )

    @property
    def views(self) -> int:
        return self.objective.views

    def forward_step(self, micro_batch: TensorDict, loss_function, forward_only):
        """Differs from the host's: rows, images and loss are this package's; ``loss_function`` is not used.

        The token weights already hold every coupling between tokens, siblings and prompts, so the loss of a
        micro-batch is a plain sum, of which each sequence-parallel rank has the terms of its own tokens. FSDP averages
        gradients over all ranks, hence the factor world size (on the weights: the loss then has gradient 1).
        """
        micro_batch = micro_batch.to(get_device_id())
        world = torch.distributed.get_world_size()
        names = ("token_weights", "rollout_log_probs", *self.objective.fields)
        fields = {name: micro_batch[name].values() for name in names}  # each [tokens], or [tokens, Dt]
        rows = rows_of(micro_batch, self.vision)
        second = rows_of(micro_batch, self.second_view)  # the rows again; a row without images has no second view
        lengths = torch.tensor([row.response_length for row in second])
        seen = torch.tensor([row.images is not None for row in second]).repeat_interleave(lengths).to(get_device_id())
        second = [row for row in second if row.images is not None]

        def loss_on_rows(batch: Batch, hidden, head):
            own = {name: batch.keep(values) for name, values in fields.items()}
            weights = world * own["token_weights"].float()
            token_ids = batch.keep(batch.response_ids)
            outcome = self.objective(self, hidden, head, token_ids, weights, own, seen)
            first, banned = slice(len(weights)), self.layout.placeholder_ids
            return outcome.loss, replace(
                outcome,
                log_probs=as_sampled(
                    outcome.log_probs, hidden.detach()[first], head.detach(), token_ids[first], banned
                ),
            )

        batch, (loss, outcome) = self.run_rows(rows + second, loss_on_rows)
        own = {name: batch.keep(fields[name]) for name in ("token_weights", "rollout_log_probs")}
        metrics = self._statistics(loss / world, outcome, own)
        loss_sum = metrics.pop("loss_sum")
        return loss, {"loss": loss_sum, "metrics": metrics}

    def _statistics(self, loss, outcome: Outcome, fields) -> dict:
        """The sums that the driver logs, over the micro-batch as a whole."""
        counted = fields["token_weights"] > 0  # padding rows of the host weigh nothing and are in no statistic
        drift = (outcome.log_probs - fields["rollout_log_probs"]).abs()[counted]
        sums = {"loss_sum": loss.detach(), "tokens": counted.sum(), "drift_sum": drift.sum(), **outcome.sums}
        total = torch.stack([value.double() for value in sums.values()])
        largest = drift.max() if len(drift) else drift.new_zeros(())
        if self.ulysses_parallel_group is not None:  # each rank of the group holds the terms of its own tokens
            torch.distributed.all_reduce(total, group=self.ulysses_parallel_group)
            torch.distributed.all_reduce(largest, torch.distributed.ReduceOp.MAX, group=self.ulysses_parallel_group)
        # The host averages over data-parallel ranks before it sums over micro-batches, hence their number once more.
        values = (total * self.get_data_parallel_size()).tolist()
        metrics = {name: Metric("sum", value) for name, value in zip(sums, values, strict=True)}
        metrics["loss_sum"] = values[0]  # the host sums and averages the loss by itself
        return {**metrics, "drift_max": Metric("max", float(largest))}


def as_sampled(log_probs, hidden, head, token_ids, banned: list[int]) -> torch.Tensor:
    """Log-probabilities over the ids that the sampler may pick: the tokenizer's without the vision placeholders.

    The host bans the placeholders in vLLM, whose log-probabilities therefore leave them out; KL and VA do not. From
    log p and the logit of the same token follows the normaliser, from it the placeholders' mass.

    Args:
        log_probs: [M] over all ids; hidden: [M, Ds]; head: [rows, Ds]; token_ids: [M].
    Returns:
        [M] float32, nats.
    """
    token_logits = (hidden * head[token_ids]).sum(-1, dtype=torch.float32)
    banned_logits = (hidden @ head[banned].t()).float()
    mass = (banned_logits - (token_logits - log_probs)[:, None]).exp().sum(-1)
    return log_probs - torch.log1p(-mass.clamp(max=1 - 1e-6))


def rows_of(micro_batch: TensorDict, vision: dict) -> list[Row]:
    """The rollouts of a micro-batch as rows; images by the prompt's uid, for rows whose prompt has any."""
    lengths = micro_batch["response_mask"].offsets().diff().tolist()
    input_ids = micro_batch["input_ids"].unbind()
    uids = list(micro_batch["uid"])
    return [Row(ids.cpu(), length, vision.get(uid)) for ids, length, uid in zip(input_ids, lengths, uids, strict=True)]
