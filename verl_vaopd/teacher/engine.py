"""FSDP teacher engine: both views of a micro-batch in one forward, no gradient."""

import torch
from tensordict import TensorDict
from verl.utils.device import get_device_id
from verl.workers.engine.base import EngineRegistry

from verl_vaopd.algorithm import token_log_probs
from verl_vaopd.student.engine import DEVICES, PackedQwen3VLEngine, rows_of
from verl_vaopd.student.packing import Batch


@EngineRegistry.register(model_type="vaopd_teacher", backend=["fsdp2"], device=DEVICES)
class TeacherEngine(PackedQwen3VLEngine):
    """Set by its worker: ``vision`` and ``degraded`` (prompt uid -> ImageInputs), ``vocab_size``, ``chunk_size``."""

    views = 2

    def _build_module(self):
        return super()._build_module().requires_grad_(False)

    # Frozen: the host's forward_only would say so too, but it also moves every parameter to host memory
    # (CPUOffloadPolicy). Here offloading is a setting (param_offload), as it is for the student.
    def _build_optimizer(self, module):
        return None

    def _build_lr_scheduler(self, optimizer):
        return None

    @torch.no_grad()
    def forward_step(self, micro_batch: TensorDict, loss_function, forward_only):
        """Score the rows of a micro-batch under both views: each prompt runs once per view, for all its rollouts.

        Returns:
            (None, {"model_output": nested tensors over the rows}): ``logp_original`` and ``logp_pixelated``, fp32 nats
            per response token; ``teacher_hidden`` [tokens, Dt], last hidden states under the original view that
            predict the response tokens. A row without image, or whose prompt is not in ``degraded``, has no second
            view: its two scores are the same number.
        """
        micro_batch = micro_batch.to(get_device_id())
        original = rows_of(micro_batch, self.vision)
        second = rows_of(micro_batch, self.degraded)
        seen = [index for index, row in enumerate(second) if row.images is not None]
        degraded = [second[index] for index in seen]
        tokens = sum(row.response_length for row in original)

        def score(batch: Batch, hidden, head):
            log_probs = token_log_probs(hidden, head, batch.response_ids, self.vocab_size, chunk_size=self.chunk_size)
            return hidden[:tokens].clone(), log_probs

        batch, (hidden, log_probs) = self.run_rows(original + degraded, score)
        per_row = list(log_probs.split(batch.response_lengths))
        logp_original = per_row[: len(original)]
        logp_pixelated = list(logp_original)
        for index, scores in zip(seen, per_row[len(original) :], strict=True):
            logp_pixelated[index] = scores

        lengths = torch.tensor(batch.response_lengths[: len(original)], device=hidden.device)
        offsets = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
        nested = torch.nested.nested_tensor_from_jagged
        model_output = {
            "logp_original": nested(torch.cat(logp_original), offsets),
            "logp_pixelated": nested(torch.cat(logp_pixelated), offsets),
            "teacher_hidden": nested(hidden, offsets),
        }
        return None, {"model_output": model_output, "loss": 0.0, "metrics": {}}
