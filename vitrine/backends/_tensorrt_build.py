"""A graph becomes a TensorRT plan. Precision is in the graph's own types (`vitrine.mixed_precision`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vitrine.backends._tensorrt_library import Library
from vitrine.errors import Unsupported
from vitrine.files import write_atomic

Batches = tuple[int, int, int]
Lengths = tuple[int, int, int]

PROFILES: tuple[Batches, ...] = ((1, 4, 8), (9, 64, 256))
"""Least, usual and largest batch: one set of kernels for a server's small batches, one for bulk work."""


def build_plan(
    library: Library,
    graph: bytes,
    *,
    profiles: Sequence[Batches] = PROFILES,
    lengths: Lengths | None = None,
    timings: Path | None = None,
) -> bytes:
    """Parse an ONNX graph and build a plan for batches in these profiles.

    Args:
        library: the installed library.
        graph: a serialised model, weights inside, whose first axis of every input is the batch.
        profiles: batches that get kernels of their own.
        lengths: least, usual and largest size of a second axis that is free; for texts of any length.
        timings: a file of kernel timings, read and written anew; it makes the next build quicker.

    Raises:
        Unsupported: the library cannot parse or build the graph; with its own words.
        Unavailable: the library cannot start.
    """
    trt = library.trt
    library.complaints.clear()
    builder = library.checked(trt.Builder(library.logger), "start a builder")
    network = library.checked(builder.create_network(_flags(trt)), "make a network")
    parser = trt.OnnxParser(network, library.logger)
    if not parser.parse(graph):
        raise Unsupported(
            f"{library.version} does not parse this graph: {_errors(parser) or library.complaints.said()}"
        )
    config = library.checked(builder.create_builder_config(), "make a configuration")
    for batches in profiles:
        profile = _profile(builder, network, batches, lengths)
        library.checked(config.add_optimization_profile(profile), f"take the profile of batches {batches}")
    cache = _timing_cache(library, config, timings)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise Unsupported(f"{library.version} does not build this graph: {library.complaints.said()}")
    if cache is not None and timings is not None:
        # Of two builders at once the later one's timings stay: entries are lost, never mixed up.
        write_atomic(timings, bytes(config.get_timing_cache().serialize()))
    return bytes(plan)


def _flags(trt: Any) -> int:
    """Strongly typed: required in 10, the only way since 11."""
    return 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)


def _profile(builder: Any, network: Any, batches: Batches, lengths: Lengths | None) -> Any:
    profile = builder.create_optimization_profile()
    for place in range(network.num_inputs):
        tensor = network.get_input(place)
        rest = tuple(tensor.shape)[1:]
        rests = [(length, *rest[1:]) for length in lengths] if lengths and rest[0] == -1 else [rest] * 3
        profile.set_shape(tensor.name, *((batch, *sizes) for batch, sizes in zip(batches, rests, strict=True)))
    return profile


def _timing_cache(library: Library, config: Any, timings: Path | None) -> Any:
    """The cache that the build reads and fills; None where the library keeps none (RTX times nothing)."""
    if timings is None or library.rtx:
        return None
    cache = config.create_timing_cache(timings.read_bytes() if timings.is_file() else b"")
    if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):  # of another GPU or version
        cache = config.create_timing_cache(b"")
        library.checked(config.set_timing_cache(cache, ignore_mismatch=False), "take an empty timing cache")
    return cache


def _errors(parser: Any) -> str:
    found = [parser.get_error(place) for place in range(parser.num_errors)]
    return "; ".join(f"{error.node_operator()} {error.node_name()}: {error.desc()}" for error in found[:3])
