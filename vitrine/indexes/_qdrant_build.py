"""Filling a Qdrant collection from ours: payload indexes first, then the points, then a bounded wait.

Repeating it is safe at any moment, also on a collection that is being searched and changed: a point is written only
where no later change has been, and the file's digest goes into the collection's metadata when all of them are there.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from qdrant_client import QdrantClient, models

from vitrine.collection import Collection
from vitrine.errors import Conflict, Unavailable
from vitrine.indexes._checks import FieldType, field_types
from vitrine.indexes._qdrant_client import Server
from vitrine.indexes._qdrant_points import BASE, OWN_FIELDS, base_point, left_over, point_id, up_to, vector_name

_BATCH = 256
_POLL_S = 0.1
_GREEN_POLLS = 2
"""A server that has just taken an upload is green for a moment before its optimizer begins."""
_INDEXES: Mapping[FieldType, models.PayloadSchemaType] = {
    "text": models.PayloadSchemaType.KEYWORD,
    "number": models.PayloadSchemaType.FLOAT,
}
_NAMED = ("model", "version", "digest", "history")
_HELD = "vectors_sha256"


def fill(server: Server, collection: Collection, settings: Mapping[str, Any]) -> None:
    """Make the collection on the server if need be, upload what it lacks, wait until it is indexed.

    Raises:
        Conflict: the server's collection of that name was embedded by other content.
        Unavailable: the server cannot be reached, reports an error or is not done in time.
    """
    name = collection.info.name
    again = server.ask(lambda client: client.collection_exists(name))
    if again and held(server, collection).history != collection.info.history:
        server.ask(lambda client: client.delete_collection(name))  # its numbers say nothing about ours
        again = False
    if not again:
        _create(server, collection, settings)
    if held(server, collection).file != collection.info.vectors_sha256 or _short(server, collection):
        _upload(server, collection, again)
    _wait_until_ready(server, collection, float(settings.get("build_timeout_s", 600)))


class Held(NamedTuple):
    """What the server's collection says of itself.

    Attributes:
        history: of which sequence of the catalogue's changes.
        file: digest of the vectors that it was filled from; None while it is unfinished.
    """

    history: str
    file: str | None


def held(server: Server, collection: Collection) -> Held:
    """Read the metadata of the server's collection.

    Raises:
        Conflict: it was embedded by other content under the same name.
    """
    info = collection.info
    config = server.ask(lambda client: client.get_collection(info.name)).config
    found = dict(getattr(config, "metadata", None) or {})
    if found.get("digest") != info.digest:
        raise Conflict(
            f"Qdrant's collection {info.name} was embedded by version content {str(found.get('digest'))[:12]}, "
            f"{info.model}@{info.version} is {info.digest[:12]}; delete that collection or use another server"
        )
    return Held(str(found.get("history", "")), found.get(_HELD))


def make_payload_indexes(server: Server, name: str, types: Mapping[str, FieldType]) -> None:
    """Let fields be filtered on; those that are there stay as they are."""
    _index_fields(server, name, {field: _INDEXES[kind] for field, kind in types.items()})


def _index_fields(server: Server, name: str, fields: Mapping[str, models.PayloadSchemaType]) -> None:
    def make(client: QdrantClient) -> None:
        for field, kind in fields.items():
            client.create_payload_index(name, field, kind, wait=True)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # local mode says that it ignores payload indexes
        server.ask(make)


def _create(server: Server, collection: Collection, settings: Mapping[str, Any]) -> None:
    """Make the collection with its payload indexes; the graph takes them in only if they are there first."""
    info = collection.info
    vectors = models.VectorParams(size=info.dim, distance=models.Distance.DOT, on_disk=settings.get("on_disk"))
    optimizers = models.OptimizersConfigDiff(**settings["optimizers"]) if "optimizers" in settings else None
    server.ask(
        lambda client: (
            client.collection_exists(info.name)  # an attempt whose answer was lost
            or client.create_collection(
                info.name,
                vectors_config={vector_name(info.version): vectors},
                hnsw_config=models.HnswConfigDiff(**settings["hnsw"]) if "hnsw" in settings else None,
                optimizers_config=optimizers,
                quantization_config=_quantization(settings),
                metadata={key: getattr(info, key) for key in _NAMED},
            )
        )
    )
    _index_fields(server, info.name, OWN_FIELDS)
    make_payload_indexes(server, info.name, field_types(collection.payloads))


def _quantization(settings: Mapping[str, Any]) -> models.QuantizationConfig | None:
    kind = settings.get("quantization", "none")
    if kind == "scalar":
        return models.ScalarQuantization(scalar=models.ScalarQuantizationConfig(type=models.ScalarType.INT8))
    if kind == "turbo":
        return models.TurboQuantization(turbo=models.TurboQuantQuantizationConfig(bits=models.TurboQuantBitSize.BITS4))
    return models.BinaryQuantization(binary=models.BinaryQuantizationConfig()) if kind == "binary" else None


def _short(server: Server, collection: Collection) -> bool:
    return points(server, collection.info.name) < collection.info.count


def points(server: Server, name: str) -> int:
    """Points on the server, those of deleted items too, counted exactly."""
    return int(server.ask(lambda client: client.count(name, exact=True)).count)


def _upload(server: Server, collection: Collection, again: bool) -> None:
    """Write every row that is not there yet, take out what an older file left, then say whose file it is."""
    info = collection.info
    for start in range(0, info.count, _BATCH):
        rows: Iterable[int] = range(start, min(start + _BATCH, info.count))
        _write(server, collection, _missing(server, collection, rows) if again else rows)
    if again:
        server.ask(lambda client: client.delete(info.name, models.FilterSelector(filter=left_over(collection))))
    server.ask(lambda client: client.update_collection(info.name, metadata={_HELD: info.vectors_sha256}))


def _write(server: Server, collection: Collection, rows: Iterable[int]) -> None:
    batch = [base_point(collection, row) for row in rows]
    if batch:
        name, older = collection.info.name, up_to(collection.info.seq)
        server.ask(lambda client: client.upsert(name, batch, update_filter=older, wait=True))


def _missing(server: Server, collection: Collection, rows: Iterable[int]) -> list[int]:
    """Rows whose points do not come from this file yet."""
    row_of = {point_id(collection.item_ids[row]): row for row in rows}
    there = server.ask(lambda client: client.retrieve(collection.info.name, list(row_of), with_payload=[BASE]))
    done = {str(point.id) for point in there if (point.payload or {}).get(BASE) == collection.info.vectors_sha256}
    return [row for name, row in row_of.items() if name not in done]


def _wait_until_ready(server: Server, collection: Collection, timeout_s: float) -> None:
    """Wait for a green status that lasts, and at least the file's count."""
    name, deadline, green = collection.info.name, time.monotonic() + timeout_s, 0
    while True:
        green = green + 1 if _is_green(server, name) else 0
        if green == _GREEN_POLLS:
            break
        if time.monotonic() > deadline:
            raise Unavailable(f"Qdrant has not finished indexing {name} after {timeout_s:.0f} s; run the command again")
        time.sleep(_POLL_S)
    there, count = points(server, name), collection.info.count
    if there < count:
        raise Unavailable(f"Qdrant holds {there} of {count} points of {name} after the upload; run the command again")


def _is_green(server: Server, name: str) -> bool:
    status = server.ask(lambda client: client.get_collection(name)).status
    if status == models.CollectionStatus.RED:
        raise Unavailable(f"Qdrant reports an error on collection {name}; read the server's log, then try again")
    if status == models.CollectionStatus.GREY:  # after a restart, optimisations wait for the next update
        server.ask(lambda client: _wake(client, name))
    return status == models.CollectionStatus.GREEN


def _wake(client: QdrantClient, name: str) -> None:
    client.update_collection(name, optimizers_config=models.OptimizersConfigDiff())
