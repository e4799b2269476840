"""What a planned step takes for granted: how the models run, and what is in no config and no data sheet."""

from dataclasses import dataclass, field, replace


@dataclass(frozen=True)
class Implementation:
    """How teacher and student run."""

    name: str
    teacher_views: int
    """Views of each image that the teacher scores."""
    shared_prompt: bool
    """Image and prompt are run once per prompt (and view), not once per rollout."""
    held_logits: bool
    """Full bf16 logits of teacher and student are held; else hidden states travel and the loss goes by chunks."""
    teacher_offload: bool
    """The teacher's shards wait in host memory outside its phase."""
    chunk_rows: int
    """Response tokens whose logits (held logits: whose fp32 softmaxes) are formed at a time."""
    student_views: int = 1
    """Views of each image under which the student learns."""
    distils: bool = True
    """The loss is over the vocabulary of both models; else on the log-probabilities of the sampled tokens."""
    rewarded: bool = False
    """Both."""


VA_OPD = Implementation(
    "VA-OPD, this project", teacher_views=2, shared_prompt=True, held_logits=False, teacher_offload=True, chunk_rows=832
)
ONE_VIEW = replace(VA_OPD, name="Standard OPD, this project", teacher_views=1)
STANDARD_OPD = Implementation(
    "Standard OPD, usual implementation",
    teacher_views=1,
    shared_prompt=False,
    held_logits=True,
    teacher_offload=False,
    chunk_rows=128,
)


def _assume(default: float, text: str) -> float:
    return field(default=default, metadata={"text": text})


@dataclass(frozen=True)
class Assumptions:
    """What is not in a config or a data sheet. None of it is measured by this project."""

    compute: float = _assume(0.45, "reached share of peak bf16 FLOP/s")
    hbm: float = _assume(0.8, "reached share of peak HBM bandwidth")
    nvlink: float = _assume(0.7, "reached share of peak NVLink bandwidth, overlapped with compute")
    pcie: float = _assume(0.7, "reached share of peak PCIe bandwidth, not overlapped")
    decode_latency: float = _assume(0.003, "seconds that launches, scheduler and sampling add to each decoding step")
    vllm_memory: float = _assume(0.5, "vLLM's share of GPU memory while it generates (gpu_memory_utilization)")
    micro_batch_tokens: float = _assume(32768, "tokens of a micro-batch per GPU, of all views")
    teacher_micro_batch_tokens: float | None = _assume(None, "the same for the teacher, where it differs")
    sync_bucket: float = _assume(2, "GiB of the buffer through which weights go to vLLM")


NOTES = (
    "Seconds are predictions: the longest of FLOPs, HBM bytes and NVLink bytes, each over what is reached of its peak, "
    "plus host copies and the latency of decoding.",
    "Work is spread evenly over the GPUs; decoding ends with the longest rollout. One rollout is of the longest "
    "length, all others share the rest of the mean.",
    "One image per prompt; the pixelated view has its size.",
    "Siblings decode on one vLLM replica (tensor parallel 1), their prompt is prefilled once. vLLM sleeps outside "
    "generation.",
    "Memory is what a phase holds at its fullest moment. Not counted: CUDA contexts, NCCL buffers, work space of "
    "kernels, fragmentation.",
    "Not in the prediction: driver, data loading, image processing, rewards, the way through TransferQueue, vLLM's "
    "waking and sleeping, validation, checkpoints.",
)
