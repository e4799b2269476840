"""FSDP teacher engine: both views of a micro-batch in one forward, no gradient."""

import torch
from tensordict import TensorDict
from verl.utils.device import get_device_id
from verl.workers.engine.base import EngineRegistry

from verl_vaopd.methods.interface.method import Method
from verl_vaopd.methods.interface.scores import Views
from verl_vaopd.model.engine import DEVICES, VisionEngine, rows_of
from verl_vaopd.model.packing import Batch


@EngineRegistry.register(model_type="vaopd_teacher", backend=["fsdp2"], device=DEVICES)
class TeacherEngine(VisionEngine):
    """Set by its worker: ``vision`` and ``degraded`` (prompt uid -> ImageInputs), ``vocab_size``, ``chunk_size``,
    ``method``, which says what is made of the views, and ``scores_only``."""

    method: Method
    scores_only = False
    """Whether nobody needs the hidden states, which are then not kept."""

    @property
    def views(self) -> int:
        return self.method.teacher_views

    @property
    def keeps_hidden(self) -> bool:
        return self.method.teacher_hidden and not self.scores_only

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
            (None, {"model_output": nested tensors over the rows}): the method's ``score_names``, a number per response
            token each, and where the method needs them, unless ``scores_only``, ``teacher_hidden`` [tokens, Dt], last
            hidden states under the original view that predict the response tokens. A row without image, or whose
            prompt is not in ``degraded``, has no second view.
        Raises:
            ValueError: the method's ``score`` returns other columns than it names, or of another shape.
        """
        device = get_device_id()
        original = rows_of(micro_batch, self.vision)
        second = rows_of(micro_batch, self.degraded)
        seen = [index for index, row in enumerate(second) if row.images is not None]
        degraded = [second[index] for index in seen]
        tokens = sum(row.response_length for row in original)

        lengths = torch.tensor([row.response_length for row in original])
        has_view = torch.zeros(len(original), dtype=torch.bool)
        has_view[seen] = True
        # [tokens], in the order of ``degraded``; indices, since a mask would be counted, and waited for.
        at = has_view.repeat_interleave(lengths).nonzero().squeeze(1).to(device, non_blocking=True)
        both = slice(None) if len(seen) == len(original) else at  # a slice copies nothing

        def scored(batch: Batch, hidden, head):
            views = Views(hidden, batch.response_ids, head, tokens, both, self.vocab_size, self.chunk_size)
            columns = self._checked(self.method.score(views), tokens)
            return {**columns, "teacher_hidden": views.original.clone()} if self.keeps_hidden else columns

        _, columns = self.run_rows(original + degraded, scored)
        offsets = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)]).to(device, non_blocking=True)
        nested = {name: torch.nested.nested_tensor_from_jagged(rows, offsets) for name, rows in columns.items()}
        return None, {"model_output": nested, "loss": 0.0, "metrics": {}}

    def _checked(self, columns: dict, tokens: int) -> dict:
        names = self.method.score_names
        shapes = {name: list(values.shape) for name, values in columns.items()}
        if shapes != dict.fromkeys(names, [tokens]):
            raise ValueError(
                f"vaopd.method={self.method.name}: score() returns {shapes}, it must return [{tokens}] for each of "
                f"{', '.join(names)} (score_names)"
            )
        return columns
