"""The floor: the same decoding and the same engine in one process without a server.

Told line by line as a JSON list of batch sizes; answers the CPU seconds that these batches took, decoding included.
usage: floor.py BUNDLE PHOTOS…
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np

from vitrine.bundle import read_bundle
from vitrine.encoder import load_encoder

encoder = load_encoder(read_bundle(Path(sys.argv[1])), threads=1)
photos = [Path(name).read_bytes() for name in sys.argv[2:]]


def run(sizes: list[int]) -> float:
    """CPU seconds of these batches."""
    began, at = time.process_time(), 0
    for size in sizes:
        taken = [photos[(at + place) % len(photos)] for place in range(size)]
        encoder.run(np.stack([encoder.decode(photo) for photo in taken]))
        at += size
    return time.process_time() - began


run([1, 8])
print("ready", flush=True)
for line in sys.stdin:
    print(run(json.loads(line)), flush=True)
