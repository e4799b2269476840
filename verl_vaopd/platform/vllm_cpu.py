"""vLLM plugin (entry point group ``vllm.general_plugins``): weights of the CPU build stay loadable.

On CPU, vLLM packs each linear layer's weight for its GEMM kernel after loading and drops the original, so the next
``load_weights`` meets a parameter of size 0. A policy that is trained is loaded again after every step: here the
layers keep their weight and multiply with ``torch.nn.functional.linear``.
"""

import os


def register() -> None:
    """Called by vLLM in each of its processes; does nothing unless ``VERL_PLATFORM=cpu``."""
    if os.environ.get("VERL_PLATFORM", "").strip().lower() != "cpu":
        return
    import torch
    from vllm.model_executor.layers import utils

    def keep_weight(layer: torch.nn.Module, remove_weight: bool) -> None:
        layer.cpu_linear = torch.nn.functional.linear

    utils.dispatch_cpu_unquantized_gemm = keep_weight
