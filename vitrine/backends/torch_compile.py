"""torch.compile: the torch backend's modules, compiled on their first run. Slow to start, quicker after.

Sizes are dynamic, so that a server's changing batches are compiled twice at most: for one row, and for more.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import torch

from vitrine.backends.torch import BUILT, PRECISIONS, TorchEngine, build, open_torch, target
from vitrine.bundle import Bundle
from vitrine.errors import Unavailable
from vitrine.ports import Precision

__all__ = ["BUILT", "PRECISIONS", "build", "load", "target", "worthwhile"]


def worthwhile() -> tuple[Precision, ...]:
    """All on a GPU; on a processor compiling takes longer than a server's start should."""
    return PRECISIONS if torch.cuda.is_available() else ()


def load(bundle: Bundle, *, threads: int, precision: Precision = "fp32", built: Path | None = None) -> TorchEngine:
    """Load every graph of the bundle and compile it when it first runs.

    Raises:
        Unavailable: no C++ compiler for the processor's code, no Triton for the GPU's.
        BadInput: a precision that torch does not run.
    """
    del built
    _check_compiler()
    return open_torch(
        bundle,
        threads=threads,
        precision=precision,
        name="torch-compile",
        wrap=lambda module: torch.compile(module, dynamic=True),
    )


def _check_compiler() -> None:
    if not torch.cuda.is_available() and not shutil.which(os.environ.get("CXX", "g++")):
        raise Unavailable("torch-compile needs a C++ compiler on the processor; install g++ or set CXX, or use torch")
    if torch.cuda.is_available() and not torch.utils._triton.has_triton():  # noqa: SLF001  # torch's own test for it
        raise Unavailable("torch-compile needs Triton on a GPU; install triton, or use torch")
