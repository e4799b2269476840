"""verl on CPU as a plugin: chosen by VERL_PLATFORM, absent otherwise."""

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

SHOW = """
import verl
from verl.plugin.platform.platform_manager import PlatformRegistry, get_platform
import importlib.metadata, sys, torch
print(sorted(PlatformRegistry.registered_names()), "verl_vaopd.platform.cpu" in sys.modules)
if "cpu" in PlatformRegistry.registered_names():
    platform = get_platform()
    from verl.utils.device import get_device_id, get_nccl_backend, get_torch_device
    device = get_torch_device()
    print(platform.device_name, get_device_id(), get_nccl_backend(), importlib.metadata.version("vllm"))
    free, total = device.mem_get_info()
    assert 0 < free < total == device.get_device_properties().total_memory
    assert 0 < device.memory_allocated() <= device.max_memory_allocated() * 1.05
    device.manual_seed(3)

    tensors = [torch.ones(16_384) for _ in range(4_000)]  # 64 KiB each, on the heap
    kept, full = tensors[::8], device.memory_allocated()
    del tensors
    device.empty_cache()  # what is free lies between what is kept
    assert device.memory_allocated() < full - 150 * 2**20, (full, device.memory_allocated())
"""


def run(before="", **env) -> list[str]:
    clean = {k: v for k, v in os.environ.items() if k != "VERL_PLATFORM"}
    result = subprocess.run(
        [sys.executable, "-c", f"{before}\n{SHOW}"], env=clean | env, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


def test_what_imports_the_room_first_may_choose_the_platform_later():
    """As ``verl-vaopd train`` does, which knows the device when the config is composed."""
    code = "import os, verl_vaopd.launch.supervisor, verl_vaopd.launch.own_cluster; os.environ['VERL_PLATFORM'] = 'cpu'"
    assert run(code)[0] == "['amd', 'cpu', 'huawei', 'nvidia'] True"


def test_plugin_registers_the_platform_when_asked():
    lines = run(VERL_PLATFORM="cpu")
    assert lines[0] == "['amd', 'cpu', 'huawei', 'nvidia'] True"
    assert lines[1].startswith("cpu cpu gloo 0.24.0") and lines[1].endswith("+cpu")


def test_plugin_does_nothing_otherwise():
    assert run() == ["['amd', 'huawei', 'nvidia'] False"]
