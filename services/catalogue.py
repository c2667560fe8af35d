"""Upsert and Delete: change the living catalogue, and answer when searches see it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from services import catalogue_codec
from services.admission import left_s
from services.keeper import Keeper
from services.snapshot import InService, Live, Snapshot
from vitrine.catalogue import Catalogue
from vitrine.catalogue_changes import EMBEDDED, Changed
from vitrine.errors import NotFound, Unsupported
from vitrine.items import Item
from vitrine.ports import Vectors
from vitrine.v1 import catalogue_pb2, catalogue_pb2_grpc


class CatalogueServicer(catalogue_pb2_grpc.CatalogueServicer):  # type: ignore[misc]
    """The Catalogue service.

    Args:
        live: what is searched now.
        keeper: None where the server follows no registry.
    """

    def __init__(self, live: Live, keeper: Keeper | None) -> None:
        self._live, self._keeper = live, keeper

    async def Upsert(  # noqa: N802 -- the RPC's name
        self, request: catalogue_pb2.UpsertRequest, context: Any = None
    ) -> catalogue_pb2.ChangeResponse:
        """Embed what has to be, write all items or none, and make searches see them."""
        keeper = self._followed()
        sent = await asyncio.to_thread(catalogue_codec.sent, request.items)
        with self._live.lease() as service:
            catalogue = await asyncio.to_thread(_catalogue, keeper, service.snapshot, request.catalogue)
            sent = replace(sent, items=await asyncio.to_thread(_with_labels, catalogue, sent.items))
            vectors = await _embedded(service, catalogue, sent, left_s(context))
            done = await asyncio.to_thread(catalogue.upsert, sent.items, sent.photos)
            return await self._seen(keeper, catalogue, done, {service.snapshot: vectors})

    async def Delete(  # noqa: N802
        self, request: catalogue_pb2.DeleteRequest, context: Any = None
    ) -> catalogue_pb2.ChangeResponse:
        """Take items out of the catalogue and of searches."""
        del context
        keeper, item_ids = self._followed(), catalogue_codec.item_ids(request)
        with self._live.lease() as service:
            catalogue = await asyncio.to_thread(_catalogue, keeper, service.snapshot, request.catalogue)
            done = await asyncio.to_thread(catalogue.delete, item_ids)
            return await self._seen(keeper, catalogue, done, {})

    async def _seen(
        self, keeper: Keeper, catalogue: Catalogue, done: Changed, vectors: dict[Snapshot, dict[str, Vectors]]
    ) -> catalogue_pb2.ChangeResponse:
        """Tell the index of what is live, again if another version went live meanwhile; then answer."""
        while True:
            with self._live.lease() as service:
                snapshot = service.snapshot
                await asyncio.to_thread(keeper.take_in, snapshot, done.changes, vectors.get(snapshot, {}))
                if self._live.snapshot is not snapshot:
                    continue
                return catalogue_pb2.ChangeResponse(
                    version=snapshot.info,
                    collection=snapshot.collection,
                    catalogue=catalogue.name,
                    catalogue_seq=done.seq,
                    changes=catalogue_codec.changes(done),
                )

    def _followed(self) -> Keeper:
        if self._keeper is None:
            raise Unsupported(
                "this server follows no registry, so it has no catalogue to change; start it with VITRINE_HOME or "
                "VITRINE_REGISTRY_URL"
            )
        return self._keeper


def _catalogue(keeper: Keeper, snapshot: Snapshot, wanted: str) -> Catalogue:
    catalogue = keeper.catalogue(snapshot)
    if wanted and wanted != catalogue.name:
        raise NotFound(
            f"this server searches the catalogue {catalogue.name!r}, not {wanted!r}; ask a server of that one, or leave "
            "the name out"
        )
    return catalogue


def _with_labels(catalogue: Catalogue, items: list[Item]) -> list[Item]:
    """What only a dataset knows of an item, its class, stays as it is when a client sends the item."""
    known = catalogue.find([item.item_id for item in items])
    return [
        replace(item, label=known[item.item_id].label, split=known[item.item_id].split)
        if item.item_id in known
        else item
        for item in items
    ]


async def _embedded(
    service: InService, catalogue: Catalogue, sent: catalogue_codec.Sent, within_s: float | None
) -> dict[str, Vectors]:
    """Vectors by item id, of those whose content is new."""
    outcomes = await asyncio.to_thread(catalogue.preview, sent.items)
    new = [place for place, outcome in enumerate(outcomes) if outcome in EMBEDDED]
    if not new:
        return {}
    vectors = await service.lanes.embed([sent.queries[place] for place in new], within_s=within_s)
    return {sent.items[place].item_id: vector for place, vector in zip(new, vectors, strict=True)}
