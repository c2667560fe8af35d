"""What a backend offers: engines that run a version's graphs, some of them from files built beforehand."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from numpy.typing import NDArray

from vitrine.progress import Track

if TYPE_CHECKING:
    from vitrine.bundle import Bundle


class Engine(Protocol):
    """A version loaded for running. Safe to call from one thread at a time."""

    name: str
    precision: str

    def run(self, graph: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run one named graph of the manifest: input name -> array, output name -> array."""
        ...


Precision = Literal["fp32", "fp16", "bf16", "int8"]

GraphRows = Mapping[str, NDArray[Any]]
"""Name of a graph -> rows of its one input: pixels uint8 (N, H, W, 3) or token ids int64 (N, L)."""


class Backend(Protocol):
    """A module in `vitrine/backends/`: runs a version's graphs, some precisions after building files for them."""

    PRECISIONS: tuple[Precision, ...]
    """What it can run; the first is its default."""

    BUILT: tuple[Precision, ...]
    """Those of them that need files built first; the others run straight from the bundle."""

    def worthwhile(self) -> tuple[Precision, ...]:
        """Those of `PRECISIONS` that may be the quickest on this machine: what `auto` measures."""
        ...

    def target(self) -> str:
        """What built files are bound to, such as GPU architecture and library version; equal targets may share them.

        Raises:
            Unavailable: the device or library is missing; nothing can be built here.
        """
        ...

    def build(
        self, bundle: Bundle, *, precision: Precision, folder: Path, calibration: GraphRows, track: Track
    ) -> None:
        """Write the files of a precision in `BUILT` to an empty folder.

        Args:
            bundle: a verified version.
            precision: one of `BUILT`.
            folder: where the files go; the caller digests them and keeps the folder whole or not at all.
            calibration: typical rows of each graph, from training items only; ranges are read off them.
            track: told of each step.

        Raises:
            Unavailable: the device or library is missing.
            Unsupported: a graph that the library cannot build; the message holds its own words.
        """
        ...

    def load(self, bundle: Bundle, *, threads: int, precision: Precision = "fp32", built: Path | None = None) -> Engine:
        """Load a verified bundle; `built` is the verified folder of what `build` wrote, for precisions in `BUILT`.

        Raises:
            Unavailable: the device or library is missing.
            BadInput: a precision that is not in `PRECISIONS`.
        """
        ...
