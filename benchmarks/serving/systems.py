"""The servers of the comparison: how each is started, asked, and stopped. Server on one core, client on the other."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from environments import ensure
from models import merges

from vitrine.bench.processes import usage

HERE = Path(__file__).parent
SERVER_CORE, CLIENT_CORE = "0", "1"
_QUIET = {
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
    "HF_HUB_OFFLINE": "1",
    "INFINITY_ANONYMOUS_USAGE_STATS": "0",
    "JINA_OPTOUT_TELEMETRY": "1",
    "BENTOML_DO_NOT_TRACK": "True",
}


@dataclass
class System:
    """A server process and a client process that asks it as told.

    Attributes:
        metrics_port: where `vitrine_batch_size` can be read; 0 for peers.
    """

    name: str
    server: Sequence[str]
    client: Sequence[str]
    port: int
    environment: Mapping[str, str] = field(default_factory=dict)
    folder: Path = Path()
    metrics_port: int = 0

    def start(self) -> None:
        """Start both and wait until the server listens and the client is ready."""
        environment = os.environ | _QUIET | dict(self.environment)
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 -- closed in stop
        self._server = subprocess.Popen(
            ["taskset", "-c", SERVER_CORE, *self.server],
            cwd=self.folder, env=environment, stdout=self._log, stderr=self._log, start_new_session=True,
        )  # fmt: skip
        _wait_for(self.port, self._server, self._log)
        self._client = subprocess.Popen(
            ["taskset", "-c", CLIENT_CORE, *self.client],
            env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True,
        )  # fmt: skip
        self._say_until("ready")

    def ask(self, callers: int, images: int) -> tuple[float, list[float]]:
        """CPU seconds of the server for `images` requests of `callers` in a closed loop, and their latencies in seconds."""
        before = usage(self._server.pid).cpu_s
        assert self._client.stdin is not None
        self._client.stdin.write(f"{callers} {images}\n")
        self._client.stdin.flush()
        seen = json.loads(self._say_until("["))
        return usage(self._server.pid).cpu_s - before, seen

    def batches(self) -> tuple[float, float]:
        """Images and batches so far, from our own metrics."""
        page = _get(self.metrics_port, "/metrics")
        return tuple(_total(page, f"vitrine_batch_size_{part}") for part in ("sum", "count"))  # type: ignore[return-value]

    def stop(self) -> None:
        """End both, and whatever the server started."""
        if hasattr(self, "_client"):
            self._client.kill()
        if not hasattr(self, "_server"):
            return
        with suppress(ProcessLookupError):
            os.killpg(self._server.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self._server.wait(20)
        with suppress(ProcessLookupError):
            os.killpg(self._server.pid, signal.SIGKILL)
        self._log.close()

    def _say_until(self, beginning: str) -> str:
        assert self._client.stdout is not None
        for line in self._client.stdout:
            if line.startswith(beginning):
                return line
        self._log.seek(0)
        raise SystemExit(f"{self.name}: the client ended early\n{self._log.read().decode(errors='replace')[-3000:]}")


def ours(home: Path, photos: Sequence[Path], *, port: int = 17980) -> System:
    """The bento, from this checkout, over a registry whose production is the model."""
    return System(
        "Vitrine",
        [sys.executable, "-m", "bentoml", "serve", "services.bento:Vitrine", "--port", str(port + 1)],
        [sys.executable, str(HERE / "ask_vitrine.py"), str(port), *map(str, photos)],
        port,
        {
            "VITRINE_HOME": str(home),
            "VITRINE_GRPC_ADDR": f"127.0.0.1:{port}",
            "VITRINE_THREADS": "1",
            "BENTOML_HOME": str(home / "bentoml"),
        },
        metrics_port=port + 1,
    )


def pytriton(models: Path, photos: Sequence[Path], *, port: int = 17990) -> System:
    """PyTriton with dynamic batching over our ONNX file."""
    python = str(ensure("pytriton"))
    graph = str(models / "bundle" / "image.onnx")
    return System(
        "PyTriton",
        [python, str(HERE / "peers" / "pytriton_server.py"), graph, "224", str(port), str(port + 1)],
        [python, str(HERE / "peers" / "ask_pytriton.py"), str(port), *map(str, photos)],
        port,
    )


def infinity(models: Path, photos: Sequence[Path], *, port: int = 17997) -> System:
    """Infinity on torch, the one engine that it has for images."""
    python = ensure("infinity")
    if not (models / "hf" / "model.safetensors").is_file():
        make = [str(python), str(HERE / "peers" / "infinity_model.py"), str(models / "hf"), str(merges())]
        subprocess.run(make, check=True)
    options = "--engine torch --device cpu --dtype float32 --batch-size 16 --no-bettertransformer --no-model-warmup"
    return System(
        "infinity",
        [str(python.with_name("infinity_emb")), "v2", "--model-id", str(models / "hf"), "--served-model-name", "clip",
         *options.split(), "--host", "127.0.0.1", "--port", str(port)],
        [str(python), str(HERE / "peers" / "ask_infinity.py"), str(port), *map(str, photos)],
        port,
    )  # fmt: skip


def clip_server(models: Path, photos: Sequence[Path], *, port: int = 17996) -> System:
    """clip-as-service on ONNX Runtime."""
    python = ensure("clip")
    flow = models / "flow.yml"
    flow.write_text(
        f"jtype: Flow\nversion: '1'\nwith: {{port: {port}, host: 127.0.0.1}}\nexecutors:\n  - name: clip_o\n    replicas: 1\n"
        "    uses:\n      jtype: CLIPEncoder\n      with: {name: 'ViT-B-32::openai', device: cpu, num_worker_preprocess: 1, "
        f"model_path: {models / 'clip-server'}}}\n      metas: {{py_modules: [clip_server.executors.clip_onnx]}}\n"
    )
    return System(
        "clip-server",
        [str(python), "-m", "clip_server", str(flow)],
        [str(python), str(HERE / "peers" / "ask_clip.py"), str(port), *map(str, photos)],
        port,
        {"PATH": f"{python.parent}:{os.environ['PATH']}"},
    )


def _wait_for(port: int, process: subprocess.Popen[bytes], log: IO[bytes], seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        with socket.socket() as probe:
            probe.settimeout(1)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.3)
    log.seek(0)
    raise SystemExit(f"nothing listens on {port}\n{log.read().decode(errors='replace')[-3000:]}")


def _get(port: int, path: str) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path)
    return connection.getresponse().read().decode()


def _total(page: str, name: str) -> float:
    return sum(float(value) for value in re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", page, re.MULTILINE))
