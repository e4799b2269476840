"""Tensors that say they are on cuda:0 and keep their data on the CPU, for tests on machines without a GPU.

Under ``pretend_cuda()`` a tensor made on, or moved to, "cuda" is a wrapper; values are real. An operator whose
arguments mix such tensors with CPU tensors of one dimension or more is refused, as CUDA refuses it; CUDA's autocast
lists apply, since the wrapper has CUDA's dispatch keys. What would wait for the GPU is counted in ``WAITS``.
"""

import contextlib
from collections import Counter
from unittest import mock

import torch
from torch.nested._internal.nested_tensor import NestedTensor
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map_only, tree_unflatten

CUDA = torch.device("cuda", 0)
aten = torch.ops.aten
COPIES = (aten._to_copy.default, aten.copy_.default)
INDEXED = {  # where the indices stand
    aten.index.Tensor: 1,
    aten.index_put.default: 1,
    aten.index_put_.default: 1,
    aten._index_put_impl_.default: 1,
}
SIZED_BY_VALUES = {  # their result's size, or what they return, is read back from the device
    aten._local_scalar_dense.default,
    aten.nonzero.default,
    aten.masked_select.default,
    aten.equal.default,
    aten.is_nonzero.default,
    aten.repeat_interleave.Tensor,
    aten._unique2.default,
    aten.unique_consecutive.default,
}
WAITS: Counter[str] = Counter()


class CudaTensor(torch.Tensor):
    @staticmethod
    def __new__(cls, elem):
        assert not isinstance(elem, CudaTensor)
        return torch.Tensor._make_wrapper_subclass(
            cls,
            elem.size(),
            strides=elem.stride(),
            storage_offset=elem.storage_offset(),
            dtype=elem.dtype,
            layout=elem.layout,
            device=CUDA,
            requires_grad=False,
        )

    def __init__(self, elem):
        self.elem = elem

    def tolist(self):
        WAITS["tolist"] += 1
        return self.elem.tolist()

    def __repr__(self):
        return f"CudaTensor({self.elem!r})"

    def __tensor_flatten__(self):
        return ["elem"], None

    @staticmethod
    def __tensor_unflatten__(inner, meta, size, stride):
        return CudaTensor(inner["elem"])

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        if any(issubclass(kind, NestedTensor) for kind in types):
            return NotImplemented  # its own dispatch, whose inner operators come here again
        return dispatch(func, args, kwargs or {})


def is_cpu(x) -> bool:
    return isinstance(x, torch.Tensor) and not isinstance(x, CudaTensor) and x.device.type == "cpu"


def count_waits(func, args, kwargs, on_cuda: list, to_cuda: bool) -> None:
    name = str(func).removeprefix("aten.")
    if func in COPIES:
        target, source = (args[0], args[1]) if func is aten.copy_.default else (None, args[0])
        arrives = isinstance(target, CudaTensor) if target is not None else to_cuda
        waits = not kwargs.get("non_blocking", False) if func is not aten.copy_.default else not (args[2:] or [0])[0]
        if is_cpu(source) and arrives and waits:
            WAITS[f"{name} to the device"] += 1
        elif isinstance(source, CudaTensor) and not arrives:
            WAITS[f"{name} from the device"] += 1
    elif func in INDEXED and on_cuda:
        for index in args[INDEXED[func]]:
            if index is not None and index.dtype in (torch.bool, torch.uint8):
                WAITS[f"{name} by a mask"] += 1
            elif index is not None and is_cpu(index):
                WAITS[f"{name} by an index in host memory"] += 1
    elif func in SIZED_BY_VALUES and on_cuda:
        WAITS[name] += 1


def dispatch(func, args, kwargs):
    flat, spec = tree_flatten((args, kwargs))
    on_cuda = [x for x in flat if isinstance(x, CudaTensor)]
    if on_cuda and func not in COPIES and func not in INDEXED and any(is_cpu(x) and x.dim() > 0 for x in flat):
        raise RuntimeError(f"Expected all tensors to be on the same device: {func} got cuda:0 and cpu")
    wanted = next((x for x in flat if isinstance(x, torch.device)), None)
    to_cuda = wanted.type == "cuda" if wanted is not None else bool(on_cuda)
    count_waits(func, args, kwargs, on_cuda, to_cuda)
    plain = [
        x.elem if isinstance(x, CudaTensor) else torch.device("cpu") if isinstance(x, torch.device) else x for x in flat
    ]
    a, k = tree_unflatten(plain, spec)
    if k.get("pin_memory"):
        k = {**k, "pin_memory": False}
    out = func(*a, **k)
    if not to_cuda:
        return out
    out = tree_map_only(torch.Tensor, CudaTensor, out)
    return return_and_correct_aliasing(func, args, kwargs, out) if on_cuda else out


class PretendCuda(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self._mode_key = torch._C._TorchDispatchModeKey.FAKE  # torch then leaves CUDA uninitialised
        self._allow_meta = True

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if any(issubclass(kind, NestedTensor) for kind in types):
            return NotImplemented
        return dispatch(func, args, kwargs or {})


@contextlib.contextmanager
def pretend_cuda():
    torch._C._ensureCUDADeviceGuardSet()  # no driver: device guards do nothing
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch("torch.cuda.amp.common.amp_definitely_not_available", lambda: False))
        stack.enter_context(mock.patch("torch.cuda.is_bf16_supported", lambda *a, **k: True))
        stack.callback(torch._C._set_only_lift_cpu_tensors, torch._C._only_lift_cpu_tensors())
        torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(..., device="cuda") does not look for a driver
        stack.enter_context(PretendCuda())
        yield


def move_to_cuda(module: torch.nn.Module) -> None:
    """Parameters and buffers of ``module`` become pretended ones; tied parameters stay tied."""
    moved = {}
    for part in module.modules():
        for name, parameter in list(part._parameters.items()):
            if parameter is not None:
                if parameter not in moved:
                    new = torch.nn.Parameter(CudaTensor(parameter.data), requires_grad=parameter.requires_grad)
                    moved[parameter] = new
                part._parameters[name] = moved[parameter]
        for name, buffer in list(part._buffers.items()):
            if buffer is not None:
                part._buffers[name] = CudaTensor(buffer)
