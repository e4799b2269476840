"""Environment variables that vLLM's processes want on every machine."""

import os
import sys
from collections.abc import MutableMapping

NOT_COMPILED = {"VLLM_USE_FLASHINFER_SAMPLER": "0"}
"""FlashInfer's sampler is compiled when an engine starts, with nvcc and ninja; vLLM's own needs neither.
``config/vaopd_trainer.yaml`` has it for a run's workers."""


def put_environment_first(environ: MutableMapping[str, str]) -> None:
    """This environment's programs before others of their name: what a library calls (ninja) is then of the pins."""
    here = os.path.dirname(sys.executable)
    if environ.get("PATH", "").split(os.pathsep)[0] != here:
        environ["PATH"] = os.pathsep.join([here, environ.get("PATH", os.defpath)])
