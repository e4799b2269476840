"""FSDP student engine: minimises sum(token_weights * KL_t) over the full vocabulary."""

from contextlib import nullcontext

import torch
from tensordict import TensorDict
from verl.utils.device import get_device_id, get_device_name
from verl.utils.metric import Metric
from verl.workers.engine.base import EngineRegistry
from verl.workers.engine.fsdp.transformer_impl import FSDPEngineWithLMHead

from verl_vaopd.algorithm import fused_linear_reverse_kl
from verl_vaopd.student.forward import install_forward
from verl_vaopd.student.packing import Batch, Layout, Row, collate

DEVICES = ["cuda", "npu", "cpu"]


class PackedQwen3VLEngine(FSDPEngineWithLMHead):
    """What the student's and the teacher's engine share: module, layout and one forward of rows."""

    def _build_module(self):
        # The registry key of this engine is not a model type of the host: it loads what "language_model" loads.
        self.model_config.model_type = "language_model"
        module = super()._build_module()
        if module.config.model_type != "qwen3_vl":
            raise ValueError(
                f"{self.model_config.path}: model type {module.config.model_type!r} is not supported; "
                "teacher and student must be Qwen3-VL (qwen3_vl)"
            )
        self.layout = Layout.of(module.config)
        install_forward(module)
        return module

    def run_rows(self, rows: list[Row], padded: bool, head_fn):
        """One forward over ``rows``. Returns the :class:`Batch` and what ``head_fn(batch, hidden, head)`` returns."""
        batch = collate(rows, self.layout, device=get_device_id(), padded=padded)
        dtype = self._autocast_dtype
        autocast = nullcontext() if dtype == torch.float32 else torch.autocast(get_device_name(), dtype=dtype)
        with autocast:
            return batch, self.module(**batch.model_inputs, head_fn=lambda h, w: head_fn(batch, h, w))


@EngineRegistry.register(model_type="vaopd_student", backend=["fsdp2"], device=DEVICES)
class StudentEngine(PackedQwen3VLEngine):
    """Set by its worker: ``vision`` (prompt uid -> ImageInputs), ``teacher_head`` [rows, Dt], ``vocab_size``,
    ``chunk_size``."""

    def forward_step(self, micro_batch: TensorDict, loss_function, forward_only):
        """Differs from the host's: rows, images and loss are this package's; ``loss_function`` is not used.

        The token weights already hold every coupling between tokens, siblings and prompts, so the loss of a
        micro-batch is a plain sum. FSDP averages gradients over the data-parallel ranks, hence the factor dp_size.
        """
        micro_batch = micro_batch.to(get_device_id())
        dp_size = self.get_data_parallel_size()
        fields = {
            name: micro_batch[name].values().float() for name in ("token_weights", "high_va", "rollout_log_probs")
        }  # each [M]
        teacher_hidden = micro_batch["teacher_hidden"].values()  # [M, Dt]

        def loss_on_rows(batch: Batch, hidden, head):
            loss, kl, log_probs = fused_linear_reverse_kl(
                hidden,
                head,
                teacher_hidden.to(self.teacher_head.dtype),
                self.teacher_head,
                fields["token_weights"],
                self.vocab_size,
                chunk_size=self.chunk_size,
                token_ids=batch.response_ids,
            )
            banned = self.layout.placeholder_ids
            return loss, kl, as_sampled(log_probs, hidden.detach(), head.detach(), batch.response_ids, banned)

        rows = rows_of(micro_batch, self.vision)
        padded = not micro_batch["use_remove_padding"]
        _, (loss, kl, log_probs) = self.run_rows(rows, padded, loss_on_rows)

        counted = fields["token_weights"] > 0  # padding rows of the host weigh nothing and are in no statistic
        high = (fields["high_va"] > 0) & counted
        drift = (log_probs - fields["rollout_log_probs"]).abs()[counted]
        sums = {
            "tokens": counted.sum(),
            "kl_sum": kl[counted].sum(),
            "kl_high_sum": kl[high].sum(),
            "high_tokens": high.sum(),
            "drift_sum": drift.sum(),
        }
        # Metric averages over ranks before it sums over micro-batches, hence dp_size once more.
        metrics = {name: Metric("sum", float(value) * dp_size) for name, value in sums.items()}
        metrics["drift_max"] = Metric("max", float(drift.max()) if len(drift) else 0.0)
        loss = loss * dp_size
        return loss, {"loss": loss.detach().item(), "metrics": metrics}


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
