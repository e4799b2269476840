"""The FSDP2 engine that teacher and student derive from: module, micro-batches and one packed forward of rows."""

from contextlib import nullcontext

import torch
from tensordict import TensorDict
from verl.utils import tensordict_utils as tu
from verl.utils.device import get_device_id, get_device_name
from verl.utils.torch_dtypes import PrecisionType
from verl.workers.engine.fsdp.transformer_impl import FSDPEngineWithLMHead
from verl.workers.engine.utils import postprocess_batch_func

from verl_vaopd.model.families import family_of, layout_of
from verl_vaopd.model.forward import install_forward
from verl_vaopd.model.host import own_units, without_patches
from verl_vaopd.model.kernels import resolve_attention
from verl_vaopd.model.micro_batches import agreed_plan, plan_micro_batches
from verl_vaopd.model.packing import collate
from verl_vaopd.model.padded import check_padded, collate_padded, install_padded_forward, plan_padded
from verl_vaopd.model.row import Row

DEVICES = ["cuda", "npu", "cpu"]


class VisionEngine(FSDPEngineWithLMHead):
    """What the student's and the teacher's engine share: module, micro-batches and one forward of rows."""

    views = 1  # under which each row runs in one forward

    def _build_module(self):
        # The registry key of this engine is not a model type of the host: it loads what "language_model" loads.
        self.model_config.model_type = "language_model"
        kernel = self._resolve_attention()
        layout = self.model_config.override_config.get("vaopd_layout", "auto")
        # The host would slice the inputs for sequence parallelism; this package's attention and packing do.
        ranks, self.ulysses_sequence_parallel_size = self.ulysses_sequence_parallel_size, 1
        with without_patches():
            module = super()._build_module()
        self.ulysses_sequence_parallel_size = ranks
        try:
            self.family = family_of(module.config)
            self.layout = layout_of(self.family, layout)
            check_padded(self.layout, self.model_config.override_config.get("attn_implementation", "auto"), ranks)
        except ValueError as error:
            raise ValueError(f"{self.model_config.path}: {error}") from error
        if self.layout == "padded":
            self.blank_row = self.family.blank_row(self.model_config.processor)
            install_padded_forward(module)
            return module
        heads = module.config.text_config.num_key_value_heads
        if heads % ranks:
            raise ValueError(
                f"ulysses_sequence_parallel_size={ranks}: must divide the {heads} key-value heads of "
                f"{self.model_config.path}"
            )
        install_forward(module, self.family, kernel)
        return module

    def _build_fsdp_module(self, module):
        with own_units() if self.family.own_units else nullcontext():
            return super()._build_fsdp_module(module)

    def _resolve_attention(self) -> str:
        """The kernel of the text layers. The host, which means flash_attention_2 where nothing is set, is told sdpa: it
        loads everywhere, and is what the vision tower keeps."""
        asked = self.model_config.override_config.get("attn_implementation", "auto")
        precision = self.engine_config.mixed_precision or {}
        dtype = PrecisionType.to_dtype(precision.get("param_dtype", "bf16"))  # the host's default
        config = self.model_config.hf_config
        config._attn_implementation = "sdpa"
        # The host writes overrides into the config, from where an export would take these to other machines.
        for name in ("attn_implementation", "vaopd_layout"):
            vars(config).pop(name, None)
        return resolve_attention(asked, get_device_name(), dtype)

    def forward_backward_batch(self, data: TensorDict, loss_function, forward_only=False):
        """Differs from the host's: a micro-batch holds siblings together and counts their prompt once, and nothing is
        normalised by token counts (the token weights hold every normalisation)."""
        if tu.get_non_tensor_data(data, key="use_dynamic_bsz", default=True):
            budget = data["max_token_len_per_gpu"] * self.ulysses_sequence_parallel_size // self.views
            planned = plan_padded if self.layout == "padded" else plan_micro_batches
            plan = agreed_plan(rows_of(data, self.vision), budget, self.get_data_parallel_group(), planned)
        else:
            plan = torch.arange(len(data)).split(data["micro_batch_size_per_gpu"])
            plan = [indices.tolist() for indices in plan]
        # Selected before any of them runs: rows that are on the device are read back to be parted, which waits for it.
        micro_batches = [tu.index_select_tensor_dict(data, indices) for indices in plan]
        outputs = []
        for number, micro_batch in enumerate(micro_batches):
            last = number == len(plan) - 1
            sync = nullcontext() if forward_only else self._gradient_sync_context(is_last_micro_batch=last)
            with torch.set_grad_enabled(not forward_only), sync, torch.profiler.record_function(f"micro_batch{number}"):
                loss, output = self.forward_step(micro_batch, loss_function, forward_only)
                if not forward_only:
                    loss.backward()
            outputs.append(output)
        tu.assign_non_tensor(data, use_dynamic_bsz=True)  # the outputs are in the plan's order: have them put back
        return postprocess_batch_func(outputs, plan, data)

    def run_rows(self, rows: list[Row], head_fn):
        """One forward over ``rows``. Returns the :class:`Batch` and what ``head_fn(batch, hidden, head)`` returns."""
        if self.layout == "padded":
            batch = collate_padded(rows, self.family, get_device_id(), self.blank_row)
        else:
            batch = collate(rows, self.family, get_device_id(), self.ulysses_parallel_group)
        dtype = self._autocast_dtype
        autocast = nullcontext() if dtype == torch.float32 else torch.autocast(get_device_name(), dtype=dtype)
        with autocast:
            return batch, self.module(**batch.model_inputs, head_fn=lambda h, w: head_fn(batch, h, w))


def rows_of(micro_batch: TensorDict, vision: dict) -> list[Row]:
    """The rollouts of a micro-batch, in host memory, as rows; images by the prompt's uid, for rows whose prompt has
    any."""
    lengths = micro_batch["response_mask"].offsets().diff().tolist()
    input_ids = micro_batch["input_ids"].unbind()
    uids = list(micro_batch["uid"])
    return [Row(ids, length, vision.get(uid)) for ids, length, uid in zip(input_ids, lengths, uids, strict=True)]
