"""One face for NVIDIA's two libraries: `tensorrt` where it is installed, else `tensorrt_rtx`.

Nothing in them raises: calls answer None, False or -1, and the reason is in the log alone. So there is one logger a
process, which keeps the last complaints, and `checked` turns an empty answer into an error that quotes them.

In all of `_tensorrt_*` an object of the library has the name of its kind (`builder`, `config`, `engine`, `context`...): a
test looks up every attribute of theirs in the listing of TensorRT 11.4.
"""

from __future__ import annotations

import functools
import importlib
import threading
from collections import deque
from dataclasses import dataclass
from typing import Any, TypeVar

from vitrine.errors import Unavailable

LIBRARIES = ("tensorrt", "tensorrt_rtx")
_INSTALL = "install the gpu extra (see docs/install.md), or use the torch backend"
_WARNING = 2  # severities: 0 internal error, 1 error, 2 warning, 3 information, 4 verbose

T = TypeVar("T")


class Complaints:
    """The last warnings and errors, from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lines: deque[tuple[int, str]] = deque(maxlen=64)

    def take(self, severity: Any, line: str) -> None:
        """Keep a line if it is a complaint; never raises, for the library's own threads call it."""
        try:
            level = int(severity)
        except (TypeError, ValueError):
            level = _WARNING
        if level <= _WARNING:
            with self._lock:
                self._lines.append((level, line))

    def said(self, most: int = 3) -> str:
        """The last errors, else the last warnings, without the library's own source lines where others are there."""
        with self._lock:
            lines = list(self._lines)
        errors = [line for level, line in lines if level < _WARNING] or [line for _, line in lines]
        telling = [line for line in errors if "checkMacros" not in line] or errors
        return "; ".join(telling[-most:]) or "it gave no reason"

    def clear(self) -> None:
        """Forget, before something new begins."""
        with self._lock:
            self._lines.clear()


@dataclass(frozen=True)
class Library:
    """The library that is installed.

    Attributes:
        trt: the module.
        rtx: whether it is TensorRT-RTX, which compiles for the GPU when it loads.
        logger: the one logger of the process; it outlives every object made with it.
        complaints: what the logger kept.
    """

    trt: Any
    rtx: bool
    logger: Any
    complaints: Complaints

    @property
    def version(self) -> str:
        """Such as `tensorrt 11.4.0.106`."""
        return f"{self.trt.__name__} {self.trt.__version__}"

    def checked(self, answer: T | None, what: str) -> T:
        """The answer, unless it is one of those by which the library says no.

        Raises:
            Unavailable: None, False or a negative number; with the library's own words.
        """
        if answer is None or answer is False or (isinstance(answer, int) and answer < 0):
            raise Unavailable(f"{self.version} could not {what}: {self.complaints.said()}")
        return answer


@functools.cache
def library() -> Library:
    """The first of `LIBRARIES` that is installed.

    Raises:
        Unavailable: neither is.
    """
    for name in LIBRARIES:
        try:
            module = importlib.import_module(name)
        except ImportError:
            continue
        complaints = Complaints()
        return Library(module, name == "tensorrt_rtx", _logger(module, complaints), complaints)
    raise Unavailable(f"neither tensorrt nor tensorrt_rtx is installed; {_INSTALL}")


def _logger(trt: Any, complaints: Complaints) -> Any:
    class Logger(trt.ILogger):  # type: ignore[misc]  # the base is found at run time
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, msg: str) -> None:
            complaints.take(severity, msg)

    return Logger()


def need_driver() -> None:
    """Make sure of a GPU before anything of the library is asked that ends the process without one.

    Raises:
        Unavailable: no NVIDIA driver, or no GPU that it can use, or no torch to hold its buffers.
    """
    try:
        import torch
    except ImportError as error:
        raise Unavailable(
            "tensorrt keeps its buffers in torch, which is not installed; install it beside tensorrt"
        ) from error
    if not torch.cuda.is_available():
        raise Unavailable(
            "tensorrt needs an NVIDIA GPU and its driver, and this machine has none that can be used; run this version on the "
            "onnxruntime backend, or serve on a machine where nvidia-smi lists a GPU"
        )


def architecture() -> str:
    """The GPU's, such as `sm90`."""
    import torch

    major, minor = torch.cuda.get_device_capability()
    return f"sm{major}{minor}"
