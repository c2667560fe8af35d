"""A real `bentoml serve` for the endurance runs: an installation with a heavy random version, a process, its memory."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from vitrine.bench.asking import made_photos
from vitrine.bench.processes import usage
from vitrine.bundle import Parity, file_ref, write_bundle
from vitrine.collection import write_collection
from vitrine.encoder import load_encoder
from vitrine.events import Promoted
from vitrine.files import write_json
from vitrine.home import find_home
from vitrine.images import ImageSpec
from vitrine.manifest import Graph, Labels, Licences, Manifest, TensorSpec
from vitrine.registry import open_registry

ROOT = Path(__file__).resolve().parents[1]
MODEL, CATALOGUE, ITEMS = "soak-search", "soak", 16
SIDE, CHANNELS, DIM, LABELS = 96, 64, 64, ("cup", "jug", "mug")


def install(root: Path, *, layers: int) -> None:
    """A registry under `root` whose production is a random network of this many 64-channel convolutions."""
    scratch = root.parent / f"{root.name}-bundle"
    scratch.mkdir(parents=True)
    (scratch / "image.onnx").write_bytes(network(layers).SerializeToString(deterministic=True))
    write_json(scratch / "labels.json", list(LABELS))
    photos = TensorSpec("photo", "image", "uint8", ("batch", SIDE, SIDE, 3))
    outputs = (
        TensorSpec("embedding_out", "embedding", "float32", ("batch", DIM)),
        TensorSpec("logits_out", "logits", "float32", ("batch", len(LABELS))),
    )
    manifest = Manifest(
        graphs={"image": Graph(file_ref(scratch, "image.onnx"), (photos,), outputs)},
        dim=DIM,
        image=ImageSpec(height=SIDE, width=SIDE),
        licences=Licences(weights="Apache-2.0", data="CC-BY-4.0"),
        labels=Labels(file_ref(scratch, "labels.json"), abstain_below=0.1),
        modalities=("image",),
    )
    files = {name: scratch / name for name in ("image.onnx", "labels.json")}
    parity = Parity("onnxruntime", "onnxruntime", "fp32", 1, min_cosine=1.0, top10_overlap=1.0)
    _promote(root, write_bundle(scratch / "bundle", manifest, files, {"strategy": "random"}, parity))


def _promote(root: Path, bundle: object) -> None:
    home = find_home({"VITRINE_HOME": str(root)})
    registry = open_registry(home)
    version = registry.register(MODEL, bundle).version  # type: ignore[arg-type]
    name = f"{CATALOGUE}--{MODEL}--{version}"
    write_collection(
        home.collections / name,
        name=name,
        catalogue=CATALOGUE,
        catalogue_digest="0" * 64,
        model=MODEL,
        version=version,
        digest=bundle.manifest.digest,  # type: ignore[attr-defined]
        vectors=load_encoder(bundle, threads=2).embed(made_photos(ITEMS, side=128)).vectors,  # type: ignore[arg-type]
        item_ids=[f"item-{n}" for n in range(ITEMS)],
        payloads=[{"label": LABELS[n % len(LABELS)], "price": float(n)} for n in range(ITEMS)],
    )
    registry.append(Promoted(model=MODEL, version=version, catalogue=CATALOGUE, collection=name, **registry.stamp()))


def network(layers: int, seed: int = 0) -> onnx.ModelProto:
    """uint8 (B, SIDE, SIDE, 3) -> unit float32 (B, DIM) and logits; most of the work is in `layers` convolutions."""
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        _nodes(layers),
        "soak",
        [value("photo", TensorProto.UINT8, ["batch", SIDE, SIDE, 3])],
        [
            value("embedding_out", TensorProto.FLOAT, ["batch", DIM]),
            value("logits_out", TensorProto.FLOAT, ["batch", len(LABELS)]),
        ],
        [numpy_helper.from_array(array, name) for name, array in _weights(layers, seed).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def _weights(layers: int, seed: int) -> dict[str, NDArray[Any]]:
    draw = np.random.default_rng(seed)
    weights: dict[str, NDArray[Any]] = {
        "scale": np.float32(255).reshape(1),
        "tiny": np.float32(1e-12).reshape(1),
        "axes": np.array([1], np.int64),
        "w_first": draw.normal(size=(CHANNELS, 3, 3, 3), scale=0.3).astype(np.float32),
        "w_last": draw.normal(size=(CHANNELS, DIM)).astype(np.float32),
        "w_logits": draw.normal(size=(DIM, len(LABELS)), scale=4).astype(np.float32),
    }
    for layer in range(layers):
        weights[f"w_{layer}"] = draw.normal(size=(CHANNELS, CHANNELS, 3, 3), scale=0.06).astype(np.float32)
    return weights


def _nodes(layers: int) -> list[onnx.NodeProto]:
    node = helper.make_node
    nodes = [
        node("Cast", ["photo"], ["pixels"], to=TensorProto.FLOAT),
        node("Div", ["pixels", "scale"], ["scaled"]),
        node("Transpose", ["scaled"], ["channels"], perm=[0, 3, 1, 2]),
        node("Conv", ["channels", "w_first"], ["seen_0"], strides=[2, 2], pads=[1] * 4),
    ]
    for layer in range(layers):
        nodes += [
            node("Conv", [f"seen_{layer}", f"w_{layer}"], [f"raw_{layer}"], pads=[1] * 4),
            node("Relu", [f"raw_{layer}"], [f"seen_{layer + 1}"]),
        ]
    return [
        *nodes,
        node("GlobalAveragePool", [f"seen_{layers}"], ["pooled"]),
        node("Flatten", ["pooled"], ["flat"]),
        node("MatMul", ["flat", "w_last"], ["raw"]),
        node("ReduceL2", ["raw", "axes"], ["norm"], keepdims=1),
        node("Max", ["norm", "tiny"], ["safe"]),
        node("Div", ["raw", "safe"], ["embedding_out"]),
        node("MatMul", ["embedding_out", "w_logits"], ["logits_out"]),
    ]


@dataclass
class Served:
    """A running server."""

    process: subprocess.Popen[bytes]
    address: str
    http: str
    log: Path

    def rss_mb(self) -> float:
        """Resident memory of the server and its worker."""
        return usage(self.process.pid).rss / 2**20

    def wait_until_ready(self, seconds: float = 90.0) -> float:
        """Seconds until `/readyz` said so."""
        began = time.monotonic()
        while time.monotonic() - began < seconds:
            if self.process.poll() is not None:
                break
            with suppress(OSError), urllib.request.urlopen(f"{self.http}/readyz", timeout=1) as answer:  # noqa: S310
                if answer.status == 200:
                    return time.monotonic() - began
            time.sleep(0.02)
        raise SystemExit(f"the server did not become ready:\n{self.log.read_text()}")


@contextmanager
def serving(
    home: Path, *, what: str = "services.bento:Vitrine", cwd: Path = ROOT, **settings: object
) -> Iterator[Served]:
    """`bentoml serve` over this installation, with a BENTOML_HOME and ports of its own; ended at the end."""
    grpc_port, http_port = _free_port(), _free_port()
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("VITRINE_", "BENTOML_", "QDRANT_"))}
    environment = kept | {
        "BENTOML_HOME": str(home.parent / "bentoml"),
        "BENTOML_DO_NOT_TRACK": "True",
        "VITRINE_HOME": str(home),
        "VITRINE_GRPC_ADDR": f"127.0.0.1:{grpc_port}",
        **{f"VITRINE_{name.upper()}": str(value) for name, value in settings.items()},
    }
    log = home.parent / f"serve-{http_port}.log"
    command = [sys.executable, "-m", "bentoml", "serve", what, "--host", "127.0.0.1", "--port", str(http_port)]
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command, cwd=cwd, env=environment, stdout=stream, stderr=stream, start_new_session=True
        )
    try:
        yield Served(process, f"127.0.0.1:{grpc_port}", f"http://127.0.0.1:{http_port}", log)
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(60)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # the worker too, whatever became of the parent


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])
