"""Which precision runs a version beside vectors that are there already: cosines of the two must mean something.

fp32, fp16 and bf16 give nearly equal vectors, so they may be mixed. A coarser precision moves every vector: it is judged
with queries and items embedded alike, and so it is searched and brought up to date at that precision alone.
"""

from __future__ import annotations

import logging
from pathlib import Path

from vitrine.bundle import Bundle
from vitrine.encoder import Encoder, load_encoder
from vitrine.engines import agree, check_precision
from vitrine.errors import BadInput, Conflict

log = logging.getLogger(__name__)


def load_agreeing(
    bundle: Bundle,
    embedded: str,
    *,
    backend: str = "onnxruntime",
    precision: str = "",
    threads: int = 2,
    engines: Path | None = None,
) -> Encoder:
    """Load a version on a backend, at the precision of its vectors where the wanted one does not agree with them.

    Args:
        bundle: the version.
        embedded: the collection's precision; "" where it is not known.
        backend: as in `vitrine.encoder.load_encoder`, or `auto`.
        precision: the one wanted; "" for the backend's own.
        threads: as in `vitrine.encoder.load_encoder`.
        engines: where built engines lie.

    Raises:
        Conflict: the backend has no precision that agrees.
        BadInput, NotFound, Unavailable, Unsupported: as `load_encoder`.
    """
    if backend == "auto":
        from vitrine.engine_auto import choose

        wanted = precision if agree(precision, embedded) else embedded
        chosen = choose(bundle, engines=engines, threads=threads, precision=wanted, beside=embedded)
        backend, precision = chosen.backend, chosen.precision
    elif not agree(check_precision(backend, precision), embedded):
        precision = _instead(backend, check_precision(backend, precision), embedded)
    return load_encoder(bundle, backend=backend, precision=precision, threads=threads, engines=engines)


def _instead(backend: str, wanted: str, embedded: str) -> str:
    try:
        found = check_precision(backend, embedded)
    except BadInput as error:
        raise Conflict(
            f"the collection was embedded at {embedded}, which does not agree with {wanted}: {error}; choose a backend "
            f"that runs it, or embed again: vitrine promote NAME@N --backend {backend}"
        ) from error
    log.warning(
        "the collection was embedded at %s, so the version runs at %s and not at %s; to change that, embed again: "
        "vitrine promote NAME@N --backend %s --precision %s",
        *(embedded, found, wanted, backend, wanted),
    )
    return found
