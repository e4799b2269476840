"""``loss.backward()`` without autograd's engine, which asks CUDA for the streams of a device that is not there."""

from unittest import mock

import torch


def backward(loss: torch.Tensor) -> None:
    """Walks the graph of ``loss``: gradients are added to the leaves' ``grad``."""
    waits: dict = {}  # node -> edges into it that are yet to be walked
    todo, known = [loss.grad_fn], {loss.grad_fn}
    while todo:
        for node, _ in todo.pop().next_functions:
            if node is not None:
                waits[node] = waits.get(node, 0) + 1
                if node not in known:
                    known.add(node)
                    todo.append(node)
    came: dict = {loss.grad_fn: {0: torch.ones_like(loss)}}
    ready = [loss.grad_fn]
    with torch.no_grad(), mock.patch("torch._C._current_graph_task_id", lambda: 7):  # one task: recomputed once
        while ready:
            node = ready.pop()
            grads = came.pop(node, {})
            if hasattr(node, "variable"):
                if (grad := grads.get(0)) is not None:
                    accumulate(node.variable, grad)
                continue
            for (after, place), grad in zip(node.next_functions, outputs(node, grads), strict=True):
                if after is None:
                    continue
                if grad is not None:
                    meta = after._input_metadata[place]  # as the engine does: summed to the input's shape, in its dtype
                    assert grad.device == meta.device, (after, grad.device, meta.device)
                    grad = grad.sum_to_size(meta.shape) if grad.shape != meta.shape else grad
                    grad = grad.to(meta.dtype)
                    held = came.setdefault(after, {})
                    held[place] = grad if held.get(place) is None else held[place] + grad
                waits[after] -= 1
                if not waits[after]:
                    ready.append(after)


def accumulate(leaf: torch.Tensor, grad: torch.Tensor) -> None:
    assert grad.device == leaf.device and grad.shape == leaf.shape, (grad.device, leaf.device)
    leaf.grad = grad.to(leaf.dtype) if leaf.grad is None else leaf.grad + grad


def outputs(node, grads: dict) -> tuple | list:
    """Of a node's backward, one for each of its next functions."""
    if not grads:
        return (None,) * len(node.next_functions)
    given = [grads.get(place) for place in range(max(len(node._input_metadata), 1))]
    if callable(node):
        outs = node(*given)
        return outs if isinstance(outs, tuple) else (outs,)
    outs = node.apply(*given)  # a Function of Python: what is no tensor has no next function
    outs = iter([out for out in (outs if isinstance(outs, tuple) else (outs,)) if out is not None])
    return [next(outs) if after is not None else None for after, _ in node.next_functions]
