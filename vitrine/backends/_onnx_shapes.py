"""ONNX operators on sizes and on the places of values, in torch: reading shapes, taking, cutting, joining, padding.

Sizes (what Shape gives and what is computed from it) are Python integers and lists of them, not tensors: nothing waits
for the device, and torch.compile sees them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.nn import functional as F  # noqa: N812  # torch's own convention

Value = Any
"""A tensor, an integer, or a list of integers."""

Operator = Callable[..., Value]

DTYPES: Mapping[int, torch.dtype] = {
    1: torch.float32,
    2: torch.uint8,
    3: torch.int8,
    6: torch.int32,
    7: torch.int64,
    9: torch.bool,
    10: torch.float16,
    11: torch.float64,
    16: torch.bfloat16,
}
"""onnx.TensorProto.DataType -> torch."""


def as_tensor(value: Value, like: torch.Tensor) -> torch.Tensor:
    """The value as a tensor on the device of another one."""
    return value if isinstance(value, torch.Tensor) else torch.tensor(value, device=like.device)


def sizes_of(value: Value) -> list[int]:
    """One size or several, as a list."""
    return list(value) if isinstance(value, list | tuple) else [value]


def two(on_tensors: Operator, on_integers: Operator) -> Operator:
    """An operator of two arguments, on tensors or on sizes."""

    def apply(a: Value, b: Value) -> Value:
        if isinstance(a, torch.Tensor) or isinstance(b, torch.Tensor):
            like = a if isinstance(a, torch.Tensor) else b
            return on_tensors(as_tensor(a, like), as_tensor(b, like))
        if isinstance(a, int) and isinstance(b, int):
            return on_integers(a, b)
        pairs = list(zip(sizes_of(a), itertools.cycle(sizes_of(b)), strict=False))
        if len(sizes_of(b)) > len(pairs):
            pairs = list(zip(itertools.cycle(sizes_of(a)), sizes_of(b), strict=False))
        return [on_integers(x, y) for x, y in pairs]

    return apply


def shape(x: torch.Tensor, *, start: int = 0, end: int | None = None) -> Value:
    """Sizes, from `start` to `end`."""
    return list(x.shape[start:end])


def cast(x: Value, *, to: int, saturate: int = 1) -> Value:
    """To another type; sizes are integers whatever the type."""
    del saturate
    return x.to(DTYPES[to]) if isinstance(x, torch.Tensor) else x


def gather(x: Value, index: Value, *, axis: int = 0) -> Value:
    """Take along an axis; a negative index counts from the end."""
    if not isinstance(x, torch.Tensor):
        return x[index] if isinstance(index, int) else [x[place] for place in index]
    if isinstance(index, int):
        return x.select(axis, index)
    where = as_tensor(index, x)
    axis %= x.dim()
    flat = torch.where(where < 0, where + x.shape[axis], where).reshape(-1)
    return x.index_select(axis, flat).reshape(*x.shape[:axis], *where.shape, *x.shape[axis + 1 :])


def gather_nd(x: torch.Tensor, index: torch.Tensor, *, batch_dims: int = 0) -> Value:
    """Take the entries that rows of `index` name; only without batch dimensions."""
    assert batch_dims == 0
    return x[tuple(index.unbind(-1))]


def squeeze(x: Value, axes: Value = None) -> Value:
    """Drop axes of size one; a list of one size becomes the size."""
    if not isinstance(x, torch.Tensor):
        return x[0] if isinstance(x, list) else x
    return x.squeeze() if axes is None else x.squeeze(tuple(sizes_of(axes)))


def unsqueeze(x: Value, axes: Value) -> Value:
    """Insert axes of size one; a size becomes a list of one."""
    if not isinstance(x, torch.Tensor):
        return sizes_of(x)
    rank = x.dim() + len(sizes_of(axes))
    for axis in sorted(axis % rank for axis in sizes_of(axes)):
        x = x.unsqueeze(axis)
    return x


def concat(*parts: Value, axis: int) -> Value:
    """Join along an axis."""
    tensor = next((part for part in parts if isinstance(part, torch.Tensor)), None)
    if tensor is None:
        return [size for part in parts for size in sizes_of(part)]
    return torch.cat([as_tensor(part, tensor) for part in parts], axis)


def slice_(x: Value, starts: Value, ends: Value, axes: Value = None, steps: Value = None) -> Value:
    """Cut along axes; steps are positive (negative ones are refused when the graph is read)."""
    begin, end = sizes_of(starts), sizes_of(ends)
    along = list(range(len(begin))) if axes is None else sizes_of(axes)
    step = [1] * len(begin) if steps is None else sizes_of(steps)
    if not isinstance(x, torch.Tensor):
        return sizes_of(x)[begin[0] : end[0] : step[0]]
    cut = [slice(None)] * x.dim()
    for axis, one, other, by in zip(along, begin, end, step, strict=True):
        cut[axis] = slice(one, other, by)
    return x[tuple(cut)]


def reshape(x: Value, to: Value, *, allowzero: int = 0) -> Value:
    """To other sizes; 0 keeps the size at its place unless `allowzero`."""
    if not isinstance(x, torch.Tensor):
        return sizes_of(x) if len(sizes_of(to)) else sizes_of(x)[0]
    sizes = [x.shape[place] if size == 0 and not allowzero else size for place, size in enumerate(sizes_of(to))]
    return x.reshape(sizes)


def transpose(x: torch.Tensor, *, perm: Sequence[int] | None = None) -> Value:
    """Reorder axes; all reversed without `perm`."""
    return x.permute(*(perm if perm is not None else reversed(range(x.dim()))))


def expand(x: torch.Tensor, to: Value) -> Value:
    """Broadcast, in both directions."""
    return x.expand(torch.broadcast_shapes(x.shape, tuple(sizes_of(to))))  # type: ignore[no-untyped-call]  # torch's own


def range_(start: Value, limit: Value, delta: Value, *, device: torch.device) -> Value:
    """Integers or floats from start to before limit."""
    return torch.arange(start, limit, delta, device=device)


def constant_of_shape(sizes: Value, *, value: torch.Tensor, device: torch.device) -> Value:
    """One value everywhere."""
    return value.to(device).reshape(()).expand(sizes_of(sizes))


def split(x: torch.Tensor, sizes: Value = None, *, axis: int = 0, num_outputs: int = 0) -> Value:
    """Cut into pieces of these sizes, or into `num_outputs` equal ones."""
    if sizes is not None:
        return torch.split(x, sizes_of(sizes), axis)
    return torch.split(x, math.ceil(x.shape[axis] / num_outputs), axis)


def flatten(x: torch.Tensor, *, axis: int = 1) -> Value:
    """To two axes, cut before `axis`."""
    return x.reshape(math.prod(x.shape[:axis]), -1)


def pad(x: torch.Tensor, pads: Value, value: Value = None, axes: Value = None, *, mode: str = "constant") -> Value:
    """Add a border; all beginnings first, then all ends."""
    along = list(range(x.dim())) if axes is None else [axis % x.dim() for axis in sizes_of(axes)]
    sizes = sizes_of(pads)
    ends = {axis: (sizes[place], sizes[place + len(along)]) for place, axis in enumerate(along)}
    flat = [size for axis in reversed(range(x.dim())) for size in ends.get(axis, (0, 0))]
    kind = {"constant": "constant", "edge": "replicate", "reflect": "reflect"}[mode]
    if kind != "constant":
        return F.pad(x, flat[: 2 * (x.dim() - 2)], kind)
    return F.pad(x, flat, "constant", 0.0 if value is None else float(value))
