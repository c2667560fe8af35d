"""What every stage does alike: end with a sentence instead of a traceback, and be repeatable."""

from __future__ import annotations

import sys
from collections.abc import Callable

from vitrine.errors import VitrineError


def run_stage(main: Callable[[], None]) -> None:
    """Run a stage's entry point; an expected error is one sentence and its exit code."""
    try:
        main()
    except VitrineError as error:
        print(f"{error}", file=sys.stderr)
        sys.exit(error.exit_code)


def set_determinism(seed: int, threads: int) -> None:
    """The same seed and thread count give the same bytes: sums are split alike and drawn alike."""
    import torch

    torch.manual_seed(seed)
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
