"""Memory between batches: kept by the process instead of handed back and asked for again."""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # names of glibc's malloc.h, as numbers
_KEEP = 2**30


def keep_freed_memory() -> None:
    """Tell glibc to keep freed blocks of up to 1 GiB; nothing happens with another C library.

    A batch of views is some 20 MB, which glibc returns to the system at once; every batch then waits while the
    system clears pages. For `test_resnet` on one core that was 42 % of the processor time, 10 % after this call,
    for 6 % more memory at the peak.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_TRIM_THRESHOLD, _KEEP)
        mallopt(_MMAP_THRESHOLD, _KEEP)
