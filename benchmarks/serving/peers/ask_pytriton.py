"""Asks PyTriton in a closed loop, as told line by line: CALLERS IMAGES.

usage: ask_pytriton.py GRPC_PORT PHOTOS…
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import tritonclient.grpc as triton
from closed_loop import answer_lines

PORT, PHOTOS = sys.argv[1], [Path(name).read_bytes() for name in sys.argv[2:]]
clients = [triton.InferenceServerClient(f"127.0.0.1:{PORT}") for _ in range(8)]


def ask(caller: int, number: int) -> None:
    """One photo through."""
    wanted = triton.InferInput("jpeg", [1, 1], "BYTES")
    wanted.set_data_from_numpy(np.array([[PHOTOS[number % len(PHOTOS)]]], dtype=object))
    found = clients[caller].infer("clip", [wanted]).as_numpy("embedding")
    assert found is not None
    assert found.shape == (1, 512)


answer_lines(ask)
