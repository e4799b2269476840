"""vLLM plugin (entry point group ``vllm.general_plugins``): local sockets, shared memory of the run's name, and weights
that stay loadable.

On CPU, vLLM packs each linear layer's weight for its GEMM kernel after loading and drops the original, so the next
``load_weights`` meets a parameter of size 0. A policy that is trained is loaded again after every step: here the
layers keep their weight and multiply with ``torch.nn.functional.linear``.
"""

import os

from verl_vaopd.platform.loopback import bind_vllm
from verl_vaopd.platform.segments import SEGMENT_PREFIX, name_segments


def register() -> None:
    """Called by vLLM in each of its processes; the weights are looked after only with ``VERL_PLATFORM=cpu``."""
    bind_vllm()
    if SEGMENT_PREFIX in os.environ:  # the engine's process does not import verl, and shares memory with its workers
        name_segments(os.environ[SEGMENT_PREFIX])
    if os.environ.get("VERL_PLATFORM", "").strip().lower() != "cpu":
        return
    import torch
    from vllm.model_executor.layers import utils

    def keep_weight(layer: torch.nn.Module, remove_weight: bool) -> None:
        layer.cpu_linear = torch.nn.functional.linear

    utils.dispatch_cpu_unquantized_gemm = keep_weight
