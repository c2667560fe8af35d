"""Engines on an NVIDIA GPU: `make gpu-check` runs the GPU's tests and prints benchmarks/gpu.md with this.

    python benchmarks/gpu.py > benchmarks/gpu.md

Networks have random weights; what they cost does not depend on that. Rows come from and go back to the host, as a
server's do. The ceiling is a square matrix product in the same precision, measured here; the share is multiplications
of the network's matrix products and convolutions (counted by torch) per second over it. Parity is the worst cosine to ONNX
Runtime in float32. End to end: gRPC server and client on this machine, 400x400 JPEGs, the highest rate sustained.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import datetime as dt
import platform
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from vitrine import plugins
from vitrine.bundle import Bundle, read_bundle
from vitrine.encoder import load_encoder
from vitrine.engine_parity import embeddings
from vitrine.engines import open_engine
from vitrine.errors import VitrineError
from vitrine.ports import BackboneSpec, Engine, Precision
from vitrine.progress import bar

MODELS = ("vit_base_patch16_224", "convnext_base")
ENGINES = ("torch:fp32", "torch:fp16", "torch:bf16", "torch-compile:fp16", "torch-compile:bf16")
PLANS = ("tensorrt:fp32", "tensorrt:fp16", "tensorrt:bf16")
BATCHES = (1, 8, 64, 256)
SIDE = 8192  # of the ceiling's matrices
SECONDS = 2.0  # each measurement
GOAL = 0.6
_TYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Network:
    """A network as a version, and the floating point operations of one photo."""

    name: str
    folder: Path
    bundle: Bundle
    operations: int


def main() -> None:
    """Measure and print the page."""
    arguments = _arguments()
    if arguments.serve:
        asyncio.run(_serve(Path(arguments.serve), *arguments.engines[0].split(":"), arguments.port))
        return
    if not torch.cuda.is_available() and not arguments.without_gpu:
        sys.exit("this machine has no NVIDIA GPU that torch can use; nothing was measured")
    with tempfile.TemporaryDirectory() as scratch:
        ceilings = {precision: _ceiling(precision, arguments.side) for precision in _TYPES}
        networks = [_network(Path(scratch) / name, name) for name in arguments.models]
        tables = [_table(network, arguments, ceilings) for network in networks]
    print(_page(ceilings, tables, arguments))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=list(MODELS), help="timm architectures")
    parser.add_argument("--engines", nargs="+", default=[*ENGINES, *PLANS], help="BACKEND:PRECISION")
    parser.add_argument("--batches", nargs="+", type=int, default=list(BATCHES))
    parser.add_argument("--side", type=int, default=SIDE, help="of the ceiling's matrices")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each measurement")
    parser.add_argument("--without-gpu", action="store_true", help="try the program out on the processor")
    parser.add_argument("--serve", default="", help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, default=0, help=argparse.SUPPRESS)
    return parser.parse_args()


def _network(folder: Path, name: str) -> Network:
    from torch.utils.flop_counter import FlopCounterMode

    from vitrine.bench.asking import made_photos
    from vitrine.export import ImageGraph, export_version
    from vitrine.manifest import Licences

    backbone = plugins.load("families", "timm").load(BackboneSpec("timm", name, "random"))
    pixels = torch.zeros((1, backbone.image.height, backbone.image.width, 3), dtype=torch.uint8)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        ImageGraph(backbone).eval()(pixels)
    bundle = export_version(folder, backbone, photos=made_photos(4), licences=Licences("none", "none"), lineage={})
    return Network(name, folder, bundle, counter.get_total_flops())


def _ceiling(precision: str, side: int) -> float:
    """Floating point operations a second of a square matrix product, the best of ten."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    a, b = (torch.randn(side, side, device=device, dtype=_TYPES[precision]) for _ in range(2))
    best = float("inf")
    for _ in range(10):
        _wait()
        began = time.perf_counter()
        a @ b
        _wait()
        best = min(best, time.perf_counter() - began)
    return 2 * side**3 / best


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


@contextlib.contextmanager
def _engine(network: Network, backend: str, precision: Precision, folder: Path) -> Iterator[Engine]:
    module = plugins.load("backends", backend)
    built = None
    if precision in module.BUILT:
        built = folder / f"{network.name}-{backend}-{precision}"
        if not built.is_dir():
            built.mkdir(parents=True)
            rows = {"image": _rows(network, 64)}
            module.build(network.bundle, precision=precision, folder=built, calibration=rows, track=bar)
    yield module.load(network.bundle, threads=torch.get_num_threads(), precision=precision, built=built)
    torch.cuda.empty_cache()


def _rows(network: Network, count: int) -> NDArray[np.uint8]:
    shape = [int(size) for size in network.bundle.manifest.graphs["image"].inputs[0].shape[1:]]
    return np.random.default_rng(0).integers(0, 256, (count, *shape), dtype=np.uint8)


def _table(network: Network, arguments: argparse.Namespace, ceilings: dict[str, float]) -> list[str]:
    lines = []
    rows = _rows(network, max(*arguments.batches, 16))
    exact = open_engine(network.bundle, backend_name="onnxruntime", threads=torch.get_num_threads())
    reference = embeddings(network.bundle, "image", exact, rows[:16])
    for spec in arguments.engines:
        backend, precision = spec.split(":")
        print(f"{network.name}: {spec}", file=sys.stderr, flush=True)
        try:
            with _engine(network, backend, cast("Precision", precision), network.folder.parent) as engine:
                found = embeddings(network.bundle, "image", engine, rows[:16])
                rates = [_rate(network, engine, rows[:batch], arguments.seconds) for batch in arguments.batches]
            served = _served(network, spec, arguments)
        except (VitrineError, RuntimeError) as error:
            lines.append(f"| {spec} | {error} |" + " |" * (len(arguments.batches) + 2))
            continue
        share = rates[-1] * network.operations / ceilings[precision]
        cells = [
            *(f"{rate:,.0f}" for rate in rates),
            f"{share:.0%}",
            f"{(found * reference).sum(axis=1).min():.6f}",
            served,
        ]
        lines.append(f"| {spec} | " + " | ".join(cells) + " |")
    return lines


def _rate(network: Network, engine: Engine, rows: NDArray[np.uint8], seconds: float) -> float:
    """Photos a second, host to host: batch over the median time of a run."""
    name = network.bundle.manifest.graphs["image"].inputs[0].name
    for _ in range(3):
        engine.run("image", {name: rows})
    times: list[float] = []
    while sum(times) < seconds or len(times) < 5:
        began = time.perf_counter()
        engine.run("image", {name: rows})
        times.append(time.perf_counter() - began)
    return len(rows) / median(times)


def _served(network: Network, spec: str, arguments: argparse.Namespace) -> str:
    """The highest rate of single photos that our gRPC server sustains on this engine, in a process of its own."""
    from vitrine.bench.asking import made_photos, requests
    from vitrine.bench.session import Test, run_test

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, __file__, "--serve", str(network.folder), "--engines", spec, "--port", str(port)]
    server = subprocess.Popen(command)
    try:
        _until_open(port, server)
        test = Test(f"127.0.0.1:{port}", "embed", requests("embed", made_photos(64)), seconds=arguments.seconds)
        return f"{run_test(test).saturation or 0:,.0f}"
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(60)


def _until_open(port: int, server: subprocess.Popen[bytes]) -> None:
    for _ in range(1200):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        if server.poll() is not None:
            break
        time.sleep(0.25)
    raise RuntimeError("the server did not start")


async def _serve(folder: Path, backend: str, precision: str, port: int) -> None:
    """Serve one version without a catalogue until told to stop."""
    from services.batching import BatchLimits
    from services.lanes import Pools
    from services.server import GrpcServer
    from services.snapshot import Live, Snapshot, warm_sizes
    from vitrine.encoder import Encoder

    network = Network(folder.name, folder, read_bundle(folder), 0)
    with _engine(network, backend, cast("Precision", precision), folder.parent) as engine:
        encoder = Encoder(load_encoder(network.bundle, threads=1).bundle, engine)
        snapshot = Snapshot(folder.name, 1, encoder)
        snapshot.warm_up(warm_sizes(64))
        live = Live(Pools.make(8), BatchLimits(max_batch=64, max_wait_ms=2.0, queue=1024))
        await live.swap(snapshot)
        server = GrpcServer(live)
        await server.start(f"127.0.0.1:{port}")
        stopped = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
        await stopped.wait()
        await server.stop(1)


def _page(ceilings: dict[str, float], tables: list[list[str]], arguments: argparse.Namespace) -> str:
    device: Any = torch.cuda.get_device_name() if torch.cuda.is_available() else f"no GPU, {platform.processor()}"
    ceiling = ", ".join(f"{precision} {rate / 1e12:.1f} TFLOP/s" for precision, rate in ceilings.items())
    batches = " | ".join(f"batch {batch}" for batch in arguments.batches)
    last = f"share of the ceiling at {arguments.batches[-1]} (goal {GOAL:.0%})"
    lines = [
        "# Engines on a GPU",
        "",
        f"`python benchmarks/gpu.py`, {dt.datetime.now(dt.UTC).date()}, {device}, torch {torch.__version__}.",
        "",
        f"Ceiling, a {arguments.side} x {arguments.side} matrix product: {ceiling}. Photos a second, host to host.",
    ]
    for name, rows in zip(arguments.models, tables, strict=True):
        header = f"| engine | {batches} | {last} | worst cosine | gRPC end to end, photos/s |"
        lines += ["", f"## {name}", "", header, "|---|" + "---|" * (len(arguments.batches) + 3), *rows]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
