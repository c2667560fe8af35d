"""PyTriton over the same ONNX file and the same decoding as ours. Runs in the peer's environment.

usage: pytriton_server.py IMAGE.onnx SIDE GRPC_PORT HTTP_PORT
"""

from __future__ import annotations

import io
import sys

import numpy as np
import onnxruntime as ort
from PIL import Image
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

GRAPH, SIDE, GRPC, HTTP = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])


def session() -> ort.InferenceSession:
    """One thread that does not spin, as ours."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(GRAPH, options, providers=["CPUExecutionProvider"])


ENGINE = session()
OUTPUT = ENGINE.get_outputs()[0].name


def pixels(data: bytes) -> np.ndarray:
    """A JPEG to uint8 (SIDE, SIDE, 3): the short side scaled, the centre cut out."""
    with Image.open(io.BytesIO(data)) as image:
        image.draft("RGB", (2 * SIDE, 2 * SIDE))
        rgb = image.convert("RGB")
    scale = SIDE / min(rgb.size)
    width, height = round(rgb.width * scale), round(rgb.height * scale)
    left, top = (width - SIDE) // 2, (height - SIDE) // 2
    return np.asarray(rgb.resize((width, height), Image.Resampling.BICUBIC).crop((left, top, left + SIDE, top + SIDE)))


@batch
def embed(jpeg: np.ndarray) -> list[np.ndarray]:
    """(B, 1) JPEGs to (B, D)."""
    ready = np.stack([pixels(row[0]) for row in jpeg])
    return [ENGINE.run([OUTPUT], {ENGINE.get_inputs()[0].name: ready})[0]]


with Triton(
    config=TritonConfig(grpc_port=GRPC, http_port=HTTP, allow_metrics=False, log_verbose=0, cache_config=[])
) as triton:
    triton.bind(
        model_name="clip",
        infer_func=embed,
        inputs=[Tensor(name="jpeg", dtype=bytes, shape=(1,))],
        outputs=[Tensor(name="embedding", dtype=np.float32, shape=(-1,))],
        config=ModelConfig(max_batch_size=32, batcher=DynamicBatcher(max_queue_delay_microseconds=2000)),
    )
    triton.serve()
