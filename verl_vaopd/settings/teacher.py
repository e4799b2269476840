"""Section ``vaopd.teacher``."""

from dataclasses import dataclass, field
from typing import Any

from verl_vaopd.settings.values import is_whole, refuse

PLACEMENTS = ("colocated", "separate")


@dataclass
class TeacherConfig:
    """The frozen teacher and where it runs."""

    path: str
    """Hub name or local folder of the teacher, a Qwen3-VL checkpoint in safetensors format."""
    placement: str = "colocated"
    """``colocated``: on the student's devices, in the same processes; ``separate``: on devices of its own."""
    nnodes: int = 1
    """Nodes of the separate pool (``placement=separate``)."""
    n_gpus_per_node: int = 8
    """Devices per node of the separate pool; where nothing is set, as many as ``trainer.n_gpus_per_node``."""
    dtype: str = "bf16"
    """Dtype of the teacher's weights and compute: ``bf16`` or ``fp32``."""
    param_offload: bool = False
    """Keep the teacher in host memory between its turns."""
    fsdp_size: int = -1
    """Ranks that share one copy of the weights; -1: all of them."""
    use_dynamic_bsz: bool = True
    """Micro-batches by token count; False: by number of rollouts."""
    max_token_len_per_gpu: int = 32768
    """Tokens of a micro-batch under both views, a prompt counted once for its rollouts, with ``use_dynamic_bsz``."""
    micro_batch_size_per_gpu: int = 4
    """Rollouts of a micro-batch without ``use_dynamic_bsz``."""
    override_config: dict[str, Any] = field(default_factory=dict)
    """Overrides of the model's config, for example ``attn_implementation``."""

    def __post_init__(self):
        named = isinstance(self.path, str) and self.path
        refuse(not named, "teacher.path", self.path, "name the teacher's checkpoint (hub name or local folder)")
        refuse(self.placement not in PLACEMENTS, "teacher.placement", self.placement, f"one of {PLACEMENTS}")
        refuse(self.dtype not in ("bf16", "fp32"), "teacher.dtype", self.dtype, "'bf16' or 'fp32'")
        for name in ("nnodes", "n_gpus_per_node", "max_token_len_per_gpu", "micro_batch_size_per_gpu"):
            value = getattr(self, name)
            refuse(not is_whole(value) or value < 1, f"teacher.{name}", value, "a whole number, 1 or more")
        for name in ("param_offload", "use_dynamic_bsz"):
            value = getattr(self, name)
            refuse(not isinstance(value, bool), f"teacher.{name}", value, "true or false")
        size = self.fsdp_size
        refuse(not is_whole(size) or (size < 1 and size != -1), "teacher.fsdp_size", size, "1 or more, or -1: all")
        overrides = self.override_config
        refuse(not isinstance(overrides, dict), "teacher.override_config", overrides, "a section of settings")

    def engine_config(self):
        """verl's FSDP2 engine config for this teacher."""
        from verl.workers.config import FSDPEngineConfig

        return FSDPEngineConfig(
            strategy="fsdp2",
            model_dtype=self.dtype,
            mixed_precision={"param_dtype": self.dtype, "reduce_dtype": "fp32", "buffer_dtype": "fp32"},
            param_offload=self.param_offload,
            fsdp_size=self.fsdp_size,
            use_torch_compile=False,
            use_dynamic_bsz=self.use_dynamic_bsz,
            infer_max_token_len_per_gpu=self.max_token_len_per_gpu,
            infer_micro_batch_size_per_gpu=self.micro_batch_size_per_gpu,
        )
