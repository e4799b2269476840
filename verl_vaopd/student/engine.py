"""FSDP student engine: minimises its method's objective, a weighted sum over response tokens."""

import os
from collections.abc import Callable
from dataclasses import replace

import torch
from tensordict import TensorDict
from verl.utils.device import get_device_id
from verl.utils.metric import Metric
from verl.workers.config.optimizer import build_optimizer
from verl.workers.engine.base import EngineRegistry
from verl.workers.rollout.utils import get_vision_placeholder_token_ids

from verl_vaopd.methods.interface.distillation import Divergence
from verl_vaopd.methods.interface.objective import Objective, Outcome, Responses
from verl_vaopd.model.engine import DEVICES, VisionEngine, rows_of
from verl_vaopd.model.packing import Batch
from verl_vaopd.settings.trained import lora_settings
from verl_vaopd.student.adapters import adapter_weights, add_adapters, merged_weights, peft_config
from verl_vaopd.student.checkpoint import ShardedCheckpoint
from verl_vaopd.student.frozen import freeze, freeze_layers, freeze_names, trained_parameters, unreached
from verl_vaopd.student.sent_names import by_hub_names, keep_hub_names
from verl_vaopd.student.trained import Trained

STALE = "stale"
"""The column that says which tokens earlier weights wrote, 1 or 0, where some may be: vLLM's log-probabilities of them
are not compared."""


@EngineRegistry.register(model_type="vaopd_student", backend=["fsdp2"], device=DEVICES)
class StudentEngine(VisionEngine):
    """Set by its worker: ``objective`` (methods/), ``vision`` and, for an objective of two views,
    ``second_view`` (prompt uid -> ImageInputs), ``vocab_size``, ``chunk_size``; for distillation ``teacher_head``
    [rows, Dt]."""

    objective: Objective = Divergence()
    teacher_head: torch.Tensor | None = None
    second_view: dict = {}
    frozen: tuple[str, ...] = ()
    """Parts that are not trained; set before :meth:`initialize`."""
    say: Callable[[str], None] = staticmethod(print)
    """To the person who watches."""

    def _build_module(self):
        module = super()._build_module()
        freeze(module, self.frozen)
        self.unread = freeze_layers(module, self.family.unread)
        self.sent_by_hub_names = keep_hub_names(module)
        return module

    def _build_lora_module(self, module):
        """Differs from the host's: PEFT puts its layers into the module, whose forward stays this package's."""
        add_adapters(module, lora_settings(self.model_config), self.frozen, self.sends_merged)
        return module

    def _build_optimizer(self, module):
        """Differs from the host's: it is given what is trained."""
        return build_optimizer(trained_parameters(module), self.optimizer_config)

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
        path = self.model_config.path
        base = os.path.abspath(path) if os.path.isdir(path) else path
        self.checkpoint_manager.trained = Trained(base, list(self.frozen), lora_settings(self.model_config))

    @property
    def sends_merged(self) -> bool:
        return self.model_config.lora.get("merge", False)

    def get_per_tensor_param(self, layered_summon=False, base_sync_done=False, **kwargs):
        """Differs from the host's where there are adapters: :func:`merged_weights` says how; unmerged, the rest is in
        vLLM already. And in names, where vLLM knows those of the hub alone."""
        if not self._is_lora or self.sends_merged:
            if self._is_lora:
                weights, config = merged_weights(self.module, get_device_id()), None
            else:
                weights, config = super().get_per_tensor_param(layered_summon, base_sync_done, **kwargs)
            return by_hub_names(self.module, weights) if self.sent_by_hub_names else weights, config
        config = peft_config(self.module, self.model_config.path)
        return adapter_weights(self.module, get_device_id()).items(), config.to_dict()

    def optimizer_step(self):
        """Before the host's first: what no forward reaches is frozen, and said."""
        trained = self.checkpoint_manager.trained
        if trained.unreached is None:
            found = unreached(self.module)
            freeze_names(self.module, self.optimizer, found)
            trained.unreached = self.unread + found
            if found and self.rank == 0:
                self.say(f"not trained, no forward reaches them: {', '.join(found)}")
        return super().optimizer_step()

    @property
    def banned(self) -> list[int]:
        """Ids that the host has vLLM never sample: placeholders of images and videos."""
        processor = self.model_config.processor
        return get_vision_placeholder_token_ids(processor) if processor else self.family.placeholder_ids

    @property
    def views(self) -> int:
        return self.objective.views

    def forward_step(self, micro_batch: TensorDict, loss_function, forward_only):
        """Differs from the host's: rows, images and loss are this package's; ``loss_function`` is not used.

        The token weights already hold every coupling between tokens, siblings and prompts, so the loss of a
        micro-batch is a plain sum, of which each sequence-parallel rank has the terms of its own tokens. FSDP averages
        gradients over all ranks, hence the factor world size (on the weights: the loss then has gradient 1).
        """
        world, device = torch.distributed.get_world_size(), get_device_id()
        # Which tokens are of earlier weights is said where some may be.
        own_names = ["token_weights", "rollout_log_probs", *([STALE] if STALE in micro_batch.keys() else [])]
        names = (*own_names, *self.objective.fields)
        fields = {name: micro_batch[name].values().to(device, non_blocking=True) for name in names}  # [tokens (, Dt)]
        rows = rows_of(micro_batch, self.vision)
        second = rows_of(micro_batch, self.second_view)  # the rows again; a row without images has no second view
        lengths = torch.tensor([row.response_length for row in second])
        seen = torch.tensor([row.images is not None for row in second]).repeat_interleave(lengths)
        seen = seen.to(device, non_blocking=True)
        second = [row for row in second if row.images is not None]

        def loss_on_rows(batch: Batch, hidden, head):
            given = Responses(
                hidden=hidden,
                head=head,
                token_ids=batch.keep(batch.response_ids),
                columns={name: batch.keep(values) for name, values in fields.items()},
                seen_twice=seen,
                scale=world,
                vocab_size=self.vocab_size,
                chunk_size=self.chunk_size,
                teacher_head=self.teacher_head,
            )
            outcome = self.objective(given)
            first, banned = slice(given.tokens), self.banned
            sampled = as_sampled(
                outcome.log_probs, hidden.detach()[first], head.detach(), given.token_ids[first], banned
            )
            return outcome.loss, replace(outcome, log_probs=sampled)

        batch, (loss, outcome) = self.run_rows(rows + second, loss_on_rows)
        own = {name: batch.keep(fields[name]) for name in own_names}
        metrics = self._statistics(loss / world, outcome, own)
        loss_sum = metrics.pop("loss_sum")
        return loss, {"loss": loss_sum, "metrics": metrics}

    def _statistics(self, loss, outcome: Outcome, fields) -> dict:
        """The sums that the driver logs, over the micro-batch as a whole."""
        counted = fields["token_weights"] > 0  # padding rows of the host weigh nothing and are in no statistic
        compared = counted & (fields[STALE] == 0) if STALE in fields else counted
        drift = (outcome.log_probs - fields["rollout_log_probs"]).abs().where(compared, 0.0)
        drifts = {"drift_sum": drift.sum(), "drift_tokens": compared.sum()}
        sums = {"loss_sum": loss.detach(), "tokens": counted.sum(), **drifts, **outcome.sums}
        total = torch.stack([value.double() for value in sums.values()])
        largest = torch.nn.functional.pad(drift, (0, 1)).max().double()  # a rank of the group may have no token
        if self.ulysses_parallel_group is not None:  # each rank of the group holds the terms of its own tokens
            torch.distributed.all_reduce(total, group=self.ulysses_parallel_group)
            torch.distributed.all_reduce(largest, torch.distributed.ReduceOp.MAX, group=self.ulysses_parallel_group)
        # The host averages over data-parallel ranks before it sums over micro-batches, hence their number once more.
        total = total * self.get_data_parallel_size()
        *values, largest = torch.cat([total, largest[None]]).tolist()  # the one wait for the device
        metrics = {name: Metric("sum", value) for name, value in zip(sums, values, strict=True)}
        metrics["loss_sum"] = values[0]  # the host sums and averages the loss by itself
        return {**metrics, "drift_max": Metric("max", largest)}


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
    banned_rows = torch.stack([head[index] for index in banned])  # indexing by a list would wait for the device
    banned_logits = (hidden @ banned_rows.t()).float()
    mass = (banned_logits - (token_logits - log_probs)[:, None]).exp().sum(-1)
    return log_probs - torch.log1p(-mass.clamp(max=1 - 1e-6))
