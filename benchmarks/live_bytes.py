"""Counts the bytes of live tensors while a program runs, as CUDA's allocator does, on a machine without a GPU.

Hollow, kernels are left out wherever a tensor is large: results are memory that nothing writes to, so that a step of
any size takes neither memory nor time. What allocates and frees runs as it is: the model, autograd, checkpointing,
FSDP2. Small tensors (lengths, masks, losses) keep real values; those of large ones mean nothing.
"""

import weakref
from functools import cache

import torch
from torch._C._distributed_c10d import FakeWork
from torch._guards import active_fake_mode
from torch.distributed.tensor import DTensor
from torch.nested._internal.nested_tensor import NestedTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

aten = torch.ops.aten
LARGE = 2**20  # bytes of a storage
SHARES_MEMORY = {aten._unsafe_view.default}  # though its schema does not say so
HAS_ITS_OWN_DISPATCH = (NestedTensor, DTensor)  # which comes back with the tensors inside


class LiveBytes(TorchDispatchMode):
    """``bytes``: held at present; ``peak``: the most since :meth:`reset`.

    Every storage that an operator reads or writes counts once, with its size, until it is freed; none of ``outside``.
    """

    def __init__(self, hollow: bool = False):
        super().__init__()
        self.hollow = hollow
        self.bytes = self.peak = 0
        self._held: dict[int, tuple[weakref.ref, int]] = {}
        self._outside: dict[int, torch.UntypedStorage] = {}

    def leave_out(self, *tensors: torch.Tensor) -> None:
        """Tensors that would lie in host memory."""
        for storage in (tensor.untyped_storage() for tensor in tensors):
            self._outside[storage._cdata] = storage  # kept: its address is not used again
            self._add(-self._held.pop(storage._cdata, (None, 0))[1])

    def reset(self) -> None:
        self.peak = self.bytes

    def __enter__(self):
        resize = torch._C.StorageBase.resize_

        def counted(storage, size):  # FSDP2 frees and fills its buffers so
            resize(storage, size)
            if (key := storage._cdata) in self._held:
                reference, before = self._held[key]
                self._held[key] = reference, size
                self._add(size - before)
            return storage

        torch.UntypedStorage.resize_ = counted
        return super().__enter__()

    def __exit__(self, *error):
        del torch.UntypedStorage.resize_
        return super().__exit__(*error)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if any(issubclass(each, HAS_ITS_OWN_DISPATCH) for each in types):
            return NotImplemented
        if active_fake_mode() is not None:  # DTensor asks for shapes
            return func(*args, **kwargs)
        self._count((args, kwargs))
        result = hollow_call(func, args, kwargs) if self.hollow else func(*args, **kwargs)
        self._count(result)
        return result

    def _count(self, tree) -> None:
        for tensor in tensors_in(tree):
            if isinstance(tensor, HAS_ITS_OWN_DISPATCH):
                continue
            storage = tensor.untyped_storage()
            key = storage._cdata
            if key in self._held or key in self._outside:
                continue
            self._held[key] = (
                weakref.ref(storage, lambda _, key=key: self._add(-self._held.pop(key)[1])),
                storage.nbytes(),
            )
            self._add(storage.nbytes())

    def _add(self, size: int) -> None:
        self.bytes += size
        self.peak = max(self.peak, self.bytes)


def tensors_in(tree):
    """Of the arguments or the result of an operator."""
    if isinstance(tree, torch.Tensor):
        yield tree
    elif isinstance(tree, list | tuple | dict):
        for each in tree.values() if isinstance(tree, dict) else tree:
            yield from tensors_in(each)


def is_large(tensor: torch.Tensor) -> bool:
    return tensor.untyped_storage().nbytes() > LARGE


def hollow_call(func, args, kwargs):
    """``func(*args, **kwargs)``, allocated but not computed where an argument or the result of a factory is large."""
    shares, writes, _ = facts(func)
    if shares:
        return func(*args, **kwargs)
    tensors = list(tensors_in((args, kwargs))) or tensors_in(on_meta(func, args, kwargs))
    if not any(is_large(each) for each in tensors):
        return func(*args, **kwargs)
    if func.namespace == "c10d":  # collectives with one output: all-gather, reduce-scatter, broadcast
        return args[0], FakeWork().boxed()
    if func.namespace == "fsdp" and func is torch.ops.fsdp.all_gather_copy_in.default:
        _, output, _, size, rank = args
        return output.narrow(0, size * rank, size), output
    if writes:
        return written(func, args, kwargs)
    return tree_map_only(torch.Tensor, allocated, on_meta(func, args, kwargs))


@cache
def facts(func) -> tuple[bool, list[str], bool]:
    """Whether its result shares the memory of an argument; names of the arguments it writes to; whether it is told a
    device."""
    schema = func._schema
    shares = any(each.alias_info is not None and not each.alias_info.is_write for each in schema.returns)
    writes = [each.name for each in schema.arguments if each.alias_info is not None and each.alias_info.is_write]
    return shares or func in SHARES_MEMORY, writes, any(each.name == "device" for each in schema.arguments)


def written(func, args, kwargs):
    """What an operator that writes to its arguments returns: those."""
    named = dict(zip((each.name for each in func._schema.arguments), args, strict=False)) | kwargs
    outputs = [named[name] for name in facts(func)[1]][: len(func._schema.returns)]
    return outputs[0] if len(outputs) == 1 else tuple(outputs) or None


def on_meta(func, args, kwargs):
    """Result in shape and dtype only."""

    def shape(tensor):
        return torch.empty_strided(tensor.size(), tensor.stride(), dtype=tensor.dtype, device="meta")

    args, kwargs = tree_map_only(torch.Tensor, shape, (args, kwargs))
    kwargs.pop("pin_memory", None)
    if facts(func)[2]:
        kwargs["device"] = "meta"
    return func(*args, **kwargs)


def allocated(shape: torch.Tensor) -> torch.Tensor:
    """Memory of that shape: untouched where large, zeros where small."""
    made = torch.empty_strided(shape.size(), shape.stride(), dtype=shape.dtype)
    return made if is_large(made) else made.zero_()
