"""What a promotion would do: gates, and the work measured on a sample."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from vitrine.catalogue import Catalogue, open_catalogue
from vitrine.catchup import applied_seq
from vitrine.dataset import Dataset, find_dataset
from vitrine.embedding import embed_items
from vitrine.encoder import Encoder, load_encoder
from vitrine.engines import backend
from vitrine.errors import BadInput, NotFound
from vitrine.gates import run_gates
from vitrine.items import Item
from vitrine.lifecycle import Production, VersionState
from vitrine.names import collection_name
from vitrine.ports import Verdict
from vitrine.prices import price
from vitrine.promotion_evidence import gather_evidence
from vitrine.promotion_plan import Plan, estimate_disk
from vitrine.promotion_tools import Tools
from vitrine.sampling import sample_rows

_SAMPLE = 24


def make_plan(
    tools: Tools,
    ref: str,
    catalogue: str | None = None,
    overrides: Mapping[str, str] | None = None,
    prices: Mapping[str, Any] | None = None,
) -> Plan:
    """Run the gates and measure the work on a sample; the history and the collections stay as they are.

    Raises:
        NotFound: no such version or catalogue.
        BadInput: no catalogue is named and none can be told from the version's lineage.
    """
    version = tools.registry.resolve(ref)
    tools.settle(version)
    model = version.registered.model
    incumbent = tools.registry.state().model(model).production
    dataset = find_dataset(tools.home, catalogue or own_catalogue(version, incumbent))
    living = open_catalogue(tools.home, dataset.name)
    items = living.preview_sync(dataset)
    name = collection_name(dataset.name, model, version.number)
    to_embed = _to_embed(tools, name, version, living, items)
    encoder = _encoder(tools, version)
    seconds = _seconds(encoder, living, items) * to_embed
    return Plan(
        model=model,
        version=version.number,
        incumbent=incumbent,
        catalogue=dataset.name,
        collection=name,
        items=len(items),
        to_embed=to_embed,
        seconds=seconds,
        disk=estimate_disk(
            items,
            encoder.manifest.dim,
            tools.index,
            tools.home.collections,
            tools.home.collections / incumbent.collection if incumbent else None,
        ),
        verdicts=_verdicts(tools, version, incumbent, dataset, overrides),
        price=price(seconds, _device(tools), (prices or {}).get("device_hour")),
        currency=str((prices or {}).get("currency", "")),
    )


def _verdicts(
    tools: Tools,
    version: VersionState,
    incumbent: Production | None,
    dataset: Dataset,
    overrides: Mapping[str, str] | None,
) -> tuple[Verdict, ...]:
    evidence = gather_evidence(
        tools.registry,
        version,
        incumbent,
        dataset,
        tools.settings,
        find=lambda name: find_dataset(tools.home, name),
        encoder=lambda: tools.serving_encoder(version),
        engines=tools.home.engines,
        threads=tools.serving_threads,
        track=tools.track,
    )
    return run_gates(evidence, tools.settings, overrides)


def _to_embed(tools: Tools, name: str, version: VersionState, catalogue: Catalogue, items: list[Item]) -> int:
    """Items whose vectors are neither in the collection nor left on disk by an unfinished run."""
    existing = tools.existing(name, version.digest, catalogue)
    if existing is not None:
        seq = applied_seq(existing, catalogue.deltas)
        return sum(change.item is not None and change.content_seq > seq for change in catalogue.changes(seq))
    place = tools.workplace(name, version.digest)
    known = place.known()
    return sum(place.key(item) not in known for item in items)


def _encoder(tools: Tools, version: VersionState) -> Encoder:
    """The version on the serving engine; on the engine that needs no building where that one is not built yet."""
    try:
        return tools.encoder(version)
    except NotFound:
        return load_encoder(tools.registry.open(f"{version.registered.model}@{version.number}"), threads=tools.threads)


def _device(tools: Tools) -> str:
    return "cpu" if tools.backend == "onnxruntime" else backend(tools.backend).target()


def _seconds(encoder: Encoder, catalogue: Catalogue, items: Sequence[Item]) -> float:
    """Seconds an item, measured on a seeded sample."""
    if not items:
        raise BadInput(
            f"the catalogue {catalogue.name} has no items to embed; see: vitrine data check {catalogue.name}"
        )
    sample = [items[row] for row in sample_rows(len(items), _SAMPLE)]
    embed_items(encoder, catalogue, sample[:2])  # the first call pays for set-up
    began = time.perf_counter()
    embed_items(encoder, catalogue, sample)
    return (time.perf_counter() - began) / len(sample)


def own_catalogue(version: VersionState, incumbent: Production | None) -> str:
    """The catalogue that a version is promoted for where none is named: the live one, else the one it was made for.

    Raises:
        BadInput: neither is known.
    """
    if incumbent is not None:
        return incumbent.catalogue
    dataset = version.registered.lineage.get("dataset")
    if not dataset:
        raise BadInput(
            f"{version.registered.model}@{version.number} does not say which catalogue it is for; "
            "name one: --catalogue DATASET (see: vitrine data ls)"
        )
    return str(dataset)
