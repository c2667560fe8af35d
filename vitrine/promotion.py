"""Putting a version live, and taking it back.

promote = (1) gates, (2) the catalogue embedded into the version's own collection, (3) its index
built and checked, (4) one event that the servers follow. Until (4) the old version serves; the old
collection stays for the rollback. Repeating an interrupted promotion finishes it.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from vitrine import plugins
from vitrine.collection import Collection, open_collection, write_collection
from vitrine.dataset import Dataset, find_dataset
from vitrine.embedding import embed_items
from vitrine.encoder import Encoder, load_encoder
from vitrine.errors import BadInput, Conflict, NotFound, Refused, Tampered, Unavailable
from vitrine.events import IndexBuilt, Promoted, PromotionStarted, RolledBack
from vitrine.gates import GateSettings, run_gates
from vitrine.home import Home
from vitrine.items import Item
from vitrine.lifecycle import Production, VersionState
from vitrine.names import collection_name, parse_ref
from vitrine.progress import Track, quiet
from vitrine.promotion_evidence import gather_evidence
from vitrine.promotion_plan import Plan
from vitrine.registry import Registry

_SAMPLE = 24


@dataclass
class Promotion:
    """One run of `plan` and `carry_out` over a registry and a home."""

    registry: Registry
    home: Home
    settings: GateSettings
    threads: int = 2
    index: str = "exact"
    track: Track = quiet
    why: str = ""
    _encoders: dict[str, Encoder] = field(default_factory=dict)

    def plan(self, ref: str, catalogue: str | None = None) -> Plan:
        """Run the gates and measure the work on a sample; changes nothing.

        Raises:
            NotFound: no such version or catalogue.
            BadInput: no catalogue is named and none can be told from the version's lineage.
        """
        version = self.registry.resolve(ref)
        model = version.registered.model
        incumbent = self.registry.state().model(model).production
        dataset = find_dataset(self.home, catalogue or _own_catalogue(version, incumbent))
        items = dataset.catalogue_items()
        evidence = gather_evidence(
            self.registry,
            version,
            incumbent,
            dataset,
            self.settings,
            find=lambda name: find_dataset(self.home, name),
            encoder=lambda: self._encoder(version),
            engines=self.home.engines,
            threads=self.threads,
            track=self.track,
        )
        verdicts = run_gates(evidence, self.settings)
        return Plan(
            model=model,
            version=version.number,
            incumbent=incumbent,
            catalogue=dataset.name,
            collection=collection_name(dataset.name, model, version.number),
            items=len(items),
            seconds=self._seconds(version, dataset, items),
            disk_bytes=len(items) * self._encoder(version).manifest.dim * 4,
            disk_free=shutil.disk_usage(self.home.root).free,
            verdicts=verdicts,
        )

    def carry_out(self, plan: Plan) -> Production:
        """Do what the plan says; the last act is the switch.

        Raises:
            Refused: a gate failed; the message names each with its numbers.
            Conflict: somebody changed production meanwhile.
            Unavailable: not enough disk, or the index failed its check.
        """
        plan.insist()
        target = Production(plan.version, plan.catalogue, plan.collection)
        version = self.registry.resolve(f"{plan.model}@{plan.version}")
        dataset = find_dataset(self.home, plan.catalogue)
        if plan.incumbent == target and self._finished(plan, version, dataset):
            return target
        self._append(
            PromotionStarted,
            plan,
            catalogue=plan.catalogue,
            collection=plan.collection,
            verdicts=tuple(asdict(verdict) for verdict in plan.verdicts),
        )
        collection = self._embed(plan, version, dataset)
        self._build_index(plan, collection)
        if plan.incumbent != target:  # else it was live already, and servers load what was built anew
            self._switch(plan)
        return target

    def rollback(self, name: str) -> Production:
        """Bring the version before back, with the collection it had.

        Raises:
            NotFound: there is nothing to go back to.
            Tampered: its collection is damaged.
        """
        parse_ref(name)
        state = self.registry.state().model(name)
        now, before = state.production, state.before_production
        if now is None or before is None:
            raise NotFound(
                f"{name} has no earlier production version to roll back to; see: vitrine models history {name}"
            )
        if state.versions[before.version].retired:
            raise Refused(f"{name}@{before.version} was live before, but it is retired; promote another version")
        collection = open_collection(self.home.collections / before.collection)
        collection.verify()
        self._check_index(collection)
        self.registry.append(
            RolledBack(
                model=name,
                version=before.version,
                catalogue=before.catalogue,
                collection=before.collection,
                previous=now.version,
                why=self.why,
                **self.registry.stamp(),
            )
        )
        return before

    # --- steps ---------------------------------------------------------------------------------

    def _encoder(self, version: VersionState) -> Encoder:
        if version.digest not in self._encoders:
            bundle = self.registry.open(f"{version.registered.model}@{version.number}")
            self._encoders[version.digest] = load_encoder(bundle, threads=self.threads)
        return self._encoders[version.digest]

    def _seconds(self, version: VersionState, dataset: Dataset, items: list[Item]) -> float:
        """Seconds for the whole catalogue, measured on a seeded sample of it."""
        if not items:
            raise BadInput(
                f"the catalogue {dataset.name} has no items to embed; see: vitrine data check {dataset.name}"
            )
        chosen = np.random.default_rng(0).permutation(len(items))[:_SAMPLE]
        sample = [items[row] for row in chosen]
        encoder = self._encoder(version)
        embed_items(encoder, dataset, sample[:2])  # the first call pays for set-up
        began = time.perf_counter()
        embed_items(encoder, dataset, sample)
        return (time.perf_counter() - began) / len(sample) * len(items)

    def _existing(self, plan: Plan, version: VersionState, dataset: Dataset) -> Collection | None:
        """The collection, if an earlier try finished it for this content of the catalogue and it is undamaged."""
        try:
            collection = open_collection(self.home.collections / plan.collection)
            collection.verify()
        except (NotFound, Tampered):
            return None
        same = (collection.info.digest, collection.info.catalogue_digest) == (version.digest, dataset.digest)
        return collection if same else None

    def _finished(self, plan: Plan, version: VersionState, dataset: Dataset) -> bool:
        collection = self._existing(plan, version, dataset)
        try:
            if collection is not None:
                self._check_index(collection)
        except (Conflict, NotFound, Unavailable):  # not built yet, or not to its end
            return False
        return collection is not None

    def _embed(self, plan: Plan, version: VersionState, dataset: Dataset) -> Collection:
        existing = self._existing(plan, version, dataset)
        if existing is not None:
            return existing
        items = dataset.catalogue_items()
        vectors = embed_items(self._encoder(version), dataset, items, track=self.track)
        if not np.isfinite(vectors).all():
            raise Refused(f"{plan.model}@{plan.version} gives embeddings that are not finite on {plan.catalogue}")
        return write_collection(
            self.home.collections / plan.collection,
            name=plan.collection,
            catalogue=plan.catalogue,
            catalogue_digest=dataset.digest,
            model=plan.model,
            version=plan.version,
            digest=version.digest,
            vectors=vectors,
            item_ids=[item.item_id for item in items],
            payloads=[item.payload() for item in items],
        )

    def _build_index(self, plan: Plan, collection: Collection) -> None:
        plugins.load("indexes", self.index).build(collection, self._index_settings())
        self._check_index(collection)
        self._append(
            IndexBuilt,
            plan,
            catalogue=plan.catalogue,
            catalogue_digest=collection.info.catalogue_digest,
            collection=plan.collection,
            items=collection.info.count,
        )

    def _check_index(self, collection: Collection) -> None:
        """The index holds every item, and a sample of items finds itself."""
        index = plugins.load("indexes", self.index).open(collection, self._index_settings())
        try:
            count = index.count()
            if count != collection.info.count:
                raise Unavailable(f"the index holds {count} of {collection.info.count} items; promote again")
            rows = np.random.default_rng(0).permutation(count)[:_SAMPLE]
            vectors = np.asarray(collection.vectors[np.sort(rows)])
            for vector, hits in zip(vectors, index.search(vectors, 1), strict=True):
                own = float(vector @ vector)
                if not hits or abs(hits[0].score - own) > 1e-3:
                    raise Unavailable("items do not find themselves in the index; build it again by promoting again")
        finally:
            index.close()

    def _switch(self, plan: Plan) -> None:
        state = self.registry.state()
        now = state.model(plan.model).production
        if now != plan.incumbent:
            raise Conflict(
                f"production of {plan.model} changed while this promotion worked: it is version "
                f"{now.version if now else 'none'} now; look at it and promote again: vitrine models history {plan.model}"
            )
        previous = plan.incumbent.version if plan.incumbent else None
        event = Promoted(
            model=plan.model,
            version=plan.version,
            catalogue=plan.catalogue,
            collection=plan.collection,
            previous=previous,
            why=self.why,
            **self.registry.stamp(),
        )
        self.registry.append(event, expected_seq=state.seq)  # of two promotions at once exactly one wins

    def _append(self, kind: type, plan: Plan, **fields: Any) -> None:
        stamp = self.registry.stamp()
        self.registry.append(kind(model=plan.model, version=plan.version, why=self.why, **fields, **stamp))

    def _index_settings(self) -> Mapping[str, Any]:
        return {"url": self.home.qdrant_url} if self.index == "qdrant" else {}


def _own_catalogue(version: VersionState, incumbent: Production | None) -> str:
    if incumbent is not None:
        return incumbent.catalogue
    dataset = version.registered.lineage.get("dataset")
    if not dataset:
        raise BadInput(
            f"{version.registered.model}@{version.number} does not say which catalogue it is for; "
            "name one: --catalogue DATASET (see: vitrine data ls)"
        )
    return str(dataset)
