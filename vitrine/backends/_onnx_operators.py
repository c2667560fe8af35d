"""ONNX operators in torch: what `_onnx_torch` calls, one function a kind of operator.

Definitions: github.com/onnx/onnx, docs/Operators.md, opsets 18 to 22.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any

import torch
from torch.nn import functional as F  # noqa: N812  # torch's own convention

from vitrine.backends import _onnx_shapes as shapes
from vitrine.backends._onnx_shapes import Operator, Value, sizes_of, two


def _divide(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    if a.dtype.is_floating_point or b.dtype.is_floating_point:
        return a / b
    return torch.div(a, b, rounding_mode="trunc")


def _many(function: Operator) -> Operator:
    return lambda *values: reduce(function, values)


def gemm(
    a: torch.Tensor,
    b: torch.Tensor,
    c: torch.Tensor | None = None,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,  # noqa: N803  # ONNX's names
    transB: int = 0,  # noqa: N803
) -> Value:
    """Alpha A B + beta C."""
    a, b = (a.t() if transA else a), (b.t() if transB else b)
    if c is not None and c.dim() == 1 and alpha == beta == 1:
        return torch.addmm(c, a, b)
    product = alpha * (a @ b)
    return product if c is None else product + beta * c


def conv(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    *,
    pads: Sequence[int] = (),
    strides: Sequence[int] = (),
    dilations: Sequence[int] = (),
    group: int = 1,
    kernel_shape: Sequence[int] = (),
    auto_pad: str = "NOTSET",
) -> Value:
    """Convolution over one, two or three spatial axes."""
    del kernel_shape, auto_pad  # the weight has the one; reading the graph refused the other
    spatial = x.dim() - 2
    x, even = _even_pads(x, pads, spatial, 0.0)
    ones = [1] * spatial
    function = (F.conv1d, F.conv2d, F.conv3d)[spatial - 1]
    return function(x, weight, bias, list(strides) or ones, even, list(dilations) or ones, group)


def max_pool(
    x: torch.Tensor,
    *,
    kernel_shape: Sequence[int],
    pads: Sequence[int] = (),
    strides: Sequence[int] = (),
    dilations: Sequence[int] = (),
    ceil_mode: int = 0,
    storage_order: int = 0,
    auto_pad: str = "NOTSET",
) -> Value:
    """The largest of each window over two spatial axes."""
    del storage_order, auto_pad
    x, even = _even_pads(x, pads, 2, -math.inf)
    ones = [1, 1]
    return F.max_pool2d(
        x, list(kernel_shape), list(strides) or ones, even, list(dilations) or ones, ceil_mode=bool(ceil_mode)
    )


def average_pool(
    x: torch.Tensor,
    *,
    kernel_shape: Sequence[int],
    pads: Sequence[int] = (),
    strides: Sequence[int] = (),
    ceil_mode: int = 0,
    count_include_pad: int = 0,
    dilations: Sequence[int] = (),
    auto_pad: str = "NOTSET",
) -> Value:
    """The mean of each window over two spatial axes."""
    del auto_pad, dilations
    half = len(pads) // 2
    assert list(pads[:half]) == list(pads[half:])  # reading the graph refused the others
    return F.avg_pool2d(
        x,
        list(kernel_shape),
        list(strides) or [1, 1],
        list(pads[:half]) or [0, 0],
        ceil_mode=bool(ceil_mode),
        count_include_pad=bool(count_include_pad),
    )


def _even_pads(x: torch.Tensor, pads: Sequence[int], spatial: int, value: float) -> tuple[torch.Tensor, list[int]]:
    """Borders that a torch layer adds itself; uneven ones are added here, then none are left."""
    begin, end = list(pads[:spatial]) or [0] * spatial, list(pads[spatial:]) or [0] * spatial
    if begin == end:
        return x, begin
    flat = [size for axis in reversed(range(spatial)) for size in (begin[axis], end[axis])]
    return F.pad(x, flat, value=value), [0] * spatial


def layer_norm(
    x: torch.Tensor,
    scale: torch.Tensor,
    bias: torch.Tensor | None = None,
    *,
    axis: int = -1,
    epsilon: float = 1e-5,
    stash_type: int = 1,
) -> Value:
    """Zero mean, unit variance over the last axes."""
    del stash_type  # torch adds up in float32 anyway
    return F.layer_norm(x, x.shape[axis % x.dim() :], scale, bias, epsilon)


def batch_norm(
    x: torch.Tensor,
    scale: torch.Tensor,
    bias: torch.Tensor,
    mean: torch.Tensor,
    variance: torch.Tensor,
    *,
    epsilon: float = 1e-5,
    momentum: float = 0.9,
    training_mode: int = 0,
) -> Value:
    """With the statistics of the training."""
    del momentum, training_mode
    return F.batch_norm(x, mean, variance, scale, bias, eps=epsilon)


def instance_norm(x: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor, *, epsilon: float = 1e-5) -> Value:
    """Zero mean, unit variance over each plane."""
    return F.instance_norm(x, weight=scale, bias=bias, eps=epsilon)


def gelu(x: torch.Tensor, *, approximate: str = "none") -> Value:
    """Gaussian error linear unit."""
    return F.gelu(x, approximate=approximate)


def hard_sigmoid(x: torch.Tensor, *, alpha: float = 0.2, beta: float = 0.5) -> Value:
    """A line, cut at 0 and 1."""
    return torch.clamp(alpha * x + beta, 0, 1)


def softmax(x: torch.Tensor, *, axis: int = -1) -> Value:
    """Along an axis."""
    return torch.softmax(x, axis)


def clip(x: torch.Tensor, low: torch.Tensor | None = None, high: torch.Tensor | None = None) -> Value:
    """Cut values; a missing end is open."""
    if low is None and high is None:
        return x
    return torch.clamp(x, low, high)


def arg_max(x: torch.Tensor, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0) -> Value:
    """Where the largest is; the first of equals."""
    assert select_last_index == 0
    return torch.argmax(x, axis, bool(keepdims))


def _reduction(function: Operator) -> Operator:
    def apply(x: torch.Tensor, given: Value = None, *, axes: Any = None, keepdims: int = 1, **_: Any) -> Value:
        along = axes if given is None else sizes_of(given)
        return function(x, tuple(along if along is not None else range(x.dim())), bool(keepdims))

    return apply


def _norm(x: torch.Tensor, axes: tuple[int, ...], keep: bool) -> Value:
    return torch.linalg.vector_norm(x, dim=axes, keepdim=keep)


OPERATORS: Mapping[str, Operator] = {
    "Abs": torch.abs,
    "Add": two(torch.add, lambda a, b: a + b),
    "And": torch.logical_and,
    "ArgMax": arg_max,
    "AveragePool": average_pool,
    "BatchNormalization": batch_norm,
    "Cast": shapes.cast,
    "Clip": clip,
    "Concat": shapes.concat,
    "ConstantOfShape": shapes.constant_of_shape,
    "Conv": conv,
    "Cos": torch.cos,
    "Div": two(_divide, lambda a, b: a // b),
    "Equal": two(torch.eq, lambda a, b: a == b),
    "Erf": torch.erf,
    "Exp": torch.exp,
    "Expand": shapes.expand,
    "Flatten": shapes.flatten,
    "Gather": shapes.gather,
    "GatherND": shapes.gather_nd,
    "Gelu": gelu,
    "Gemm": gemm,
    "GlobalAveragePool": lambda x: x.mean(tuple(range(2, x.dim())), keepdim=True),
    "HardSigmoid": hard_sigmoid,
    "HardSwish": F.hardswish,
    "Identity": lambda x: x,
    "InstanceNormalization": instance_norm,
    "LayerNormalization": layer_norm,
    "MatMul": torch.matmul,
    "Max": _many(torch.maximum),
    "MaxPool": max_pool,
    "Min": _many(torch.minimum),
    "Mul": two(torch.mul, lambda a, b: a * b),
    "Neg": torch.neg,
    "Pad": shapes.pad,
    "Pow": two(torch.pow, lambda a, b: a**b),
    "Range": shapes.range_,
    "Reciprocal": torch.reciprocal,
    "ReduceL2": _reduction(_norm),
    "ReduceMax": _reduction(torch.amax),
    "ReduceMean": _reduction(torch.mean),
    "ReduceMin": _reduction(torch.amin),
    "ReduceSum": _reduction(torch.sum),
    "Relu": torch.relu,
    "Reshape": shapes.reshape,
    "Shape": shapes.shape,
    "Sigmoid": torch.sigmoid,
    "Sin": torch.sin,
    "Slice": shapes.slice_,
    "Softmax": softmax,
    "Split": shapes.split,
    "Sqrt": torch.sqrt,
    "Squeeze": shapes.squeeze,
    "Sub": two(torch.sub, lambda a, b: a - b),
    "Tanh": torch.tanh,
    "Transpose": shapes.transpose,
    "Unsqueeze": shapes.unsqueeze,
    "Where": torch.where,
}
