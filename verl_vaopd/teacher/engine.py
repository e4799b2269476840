"""FSDP teacher engine: both views of a micro-batch in one forward, no gradient."""

import torch
from tensordict import TensorDict
from verl.utils.device import get_device_id
from verl.workers.engine.base import EngineRegistry

from verl_vaopd.algorithm import fused_linear_view_kl, token_log_probs
from verl_vaopd.model.engine import DEVICES, PackedQwen3VLEngine, rows_of
from verl_vaopd.model.packing import Batch


@EngineRegistry.register(model_type="vaopd_teacher", backend=["fsdp2"], device=DEVICES)
class TeacherEngine(PackedQwen3VLEngine):
    """Set by its worker: ``vision`` and ``degraded`` (prompt uid -> ImageInputs), ``vocab_size``, ``chunk_size``,
    ``score``."""

    views = 2
    score = "sampled"

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
            (None, {"model_output": nested tensors over the rows}): two scalars per response token, fp32 nats, and
            ``teacher_hidden`` [tokens, Dt], last hidden states under the original view that predict the response
            tokens. The scalars are ``logp_original`` and ``logp_pixelated``, or with ``score == "distribution"``
            ``view_kl`` and ``view_gain`` (:func:`fused_linear_view_kl`). A row without image, or whose prompt is not
            in ``degraded``, has no second view: its two log-probabilities are the same number, its KL and gain 0.
        """
        micro_batch = micro_batch.to(get_device_id())
        original = rows_of(micro_batch, self.vision)
        second = rows_of(micro_batch, self.degraded)
        seen = [index for index, row in enumerate(second) if row.images is not None]
        degraded = [second[index] for index in seen]
        tokens = sum(row.response_length for row in original)

        lengths = torch.tensor([row.response_length for row in original])
        has_view = torch.zeros(len(original), dtype=torch.bool)
        has_view[seen] = True
        has_view = has_view.repeat_interleave(lengths).to(get_device_id())  # [tokens], in the order of ``degraded``
        shared = slice(None) if len(seen) == len(original) else has_view  # a slice copies nothing

        def sampled(batch: Batch, hidden, head):
            log_probs = token_log_probs(hidden, head, batch.response_ids, self.vocab_size, chunk_size=self.chunk_size)
            logp_pixelated = log_probs[:tokens].clone()
            logp_pixelated[shared] = log_probs[tokens:]
            scores = {"logp_original": log_probs[:tokens], "logp_pixelated": logp_pixelated}
            return {**scores, "teacher_hidden": hidden[:tokens].clone()}

        def distribution(batch: Batch, hidden, head):
            views, ids = (hidden[:tokens][shared], hidden[tokens:]), batch.response_ids[tokens:]
            scored = fused_linear_view_kl(*views, head, self.vocab_size, ids, chunk_size=self.chunk_size)
            scores = {name: hidden.new_zeros(tokens, dtype=scored[0].dtype) for name in ("view_kl", "view_gain")}
            for name, values in zip(scores, scored, strict=True):
                scores[name][shared] = values
            return {**scores, "teacher_hidden": hidden[:tokens].clone()}

        _, columns = self.run_rows(original + degraded, distribution if self.score == "distribution" else sampled)
        offsets = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)]).to(get_device_id())
        nested = {name: torch.nested.nested_tensor_from_jagged(rows, offsets) for name, rows in columns.items()}
        return None, {"model_output": nested, "loss": 0.0, "metrics": {}}
