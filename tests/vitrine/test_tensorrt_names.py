"""The full TensorRT is on no machine of CI: every attribute used of it is looked up in a listing of release 11.4.

The listing was read off the real bindings (`tests/tensorrt_names.json`: the part used). In `_tensorrt_*` an object of the
library has the name of its kind, so that this test can tell whose attribute it is.
"""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "vitrine" / "backends").glob("_tensorrt_*.py"))
KINDS = {
    "builder": "Builder",
    "cache": "ITimingCache",
    "config": "IBuilderConfig",
    "context": "IExecutionContext",
    "engine": "ICudaEngine",
    "error": "ParserError",
    "network": "INetworkDefinition",
    "parser": "OnnxParser",
    "profile": "IOptimizationProfile",
    "tensor": "ITensor",
}
HIDDEN = {"_engine": "ICudaEngine", "_runtime": "Runtime"}
RTX_ALONE = {"CudaGraphStrategy"}  # used in _rtx_context only


def used() -> set[tuple[str, str]]:
    """(class or "", attribute) of everything asked of an object of the library."""
    return {pair for source in SOURCES for pair in _used(ast.parse(source.read_text(encoding="utf-8")))}


def _used(tree: ast.AST) -> set[tuple[str, str]]:
    found = set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute):
            continue
        owner = node.value
        if isinstance(owner, ast.Name) and owner.id in KINDS:
            found.add((KINDS[owner.id], node.attr))
        elif isinstance(owner, ast.Attribute) and owner.attr in HIDDEN:
            found.add((HIDDEN[owner.attr], node.attr))
        elif isinstance(owner, ast.Attribute) and owner.attr == "context":
            found.add(("IExecutionContext", node.attr))
        elif (isinstance(owner, ast.Name) and owner.id == "trt") or (
            isinstance(owner, ast.Attribute) and owner.attr == "trt"
        ):
            found.add(("", node.attr))
        elif isinstance(owner, ast.Attribute) and isinstance(owner.value, ast.Name) and owner.value.id == "trt":
            found.add((owner.attr, node.attr))
    return {pair for pair in found if not pair[1].startswith("__")}  # Python's own


@pytest.fixture(scope="module")
def names() -> dict[str, list[str]]:
    return json.loads((ROOT / "tests" / "tensorrt_names.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("pair", sorted(used()), ids=".".join)
def test_the_listing_of_tensorrt_11_4_has_it(pair: tuple[str, str], names: dict[str, list[str]]) -> None:
    owner, attribute = pair
    if owner == "" and attribute in RTX_ALONE:
        pytest.skip("TensorRT-RTX's alone; the next test looks it up there")
    assert attribute in (names[owner] if owner else names), f"TensorRT 11.4 has no {owner}.{attribute}"


@pytest.mark.parametrize("pair", sorted(used()), ids=".".join)
def test_the_installed_tensorrt_rtx_has_it(pair: tuple[str, str]) -> None:
    trt = pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")
    owner, attribute = pair

    assert hasattr(getattr(trt, owner) if owner else trt, attribute)


def test_the_uses_are_found() -> None:
    found = used()

    assert {
        ("Builder", "build_serialized_network"),
        ("IExecutionContext", "execute_async_v3"),
        ("", "Runtime"),
    } <= found
    assert len(found) > 30


def test_a_use_of_what_11_no_longer_has_would_be_noticed(names: dict[str, list[str]]) -> None:
    old = _used(ast.parse("config.set_flag(trt.BuilderFlag.FP16)\nbuilder.platform_has_fast_fp16"))

    assert ("BuilderFlag", "FP16") in old
    assert ("Builder", "platform_has_fast_fp16") in old
    assert "platform_has_fast_fp16" not in names["Builder"]


def test_tensorrt_rtx_has_its_own_switch_for_cuda_graphs() -> None:
    trt = pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")

    assert hasattr(trt.IRuntimeConfig, "cuda_graph_strategy")
    assert hasattr(trt.CudaGraphStrategy, "WHOLE_GRAPH_CAPTURE")
