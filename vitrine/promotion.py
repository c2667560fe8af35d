"""Putting a version live (`vitrine.promotion_rollback` takes it back).

promote = (1) gates, (2) the serving engine, (3) the catalogue embedded into the version's own collection, (4) its
index, (5) what changed meanwhile, (6) checks, (7) what changed meanwhile again, (8) one event that the servers follow.
Until (8) the old version serves; the old collection stays for the rollback. Repeating an interrupted promotion
goes on where it was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from typing import Any

from vitrine import failpoints
from vitrine.catalogue import Catalogue, open_catalogue
from vitrine.catchup import applied_seq, catch_up
from vitrine.collection import Collection, write_collection
from vitrine.collection_content import content
from vitrine.collection_roles import collections_in_use
from vitrine.dataset import find_dataset
from vitrine.engine_build import BuildPlan, build_engine
from vitrine.engines import backend
from vitrine.erased import strip_erased
from vitrine.errors import Conflict, NotFound
from vitrine.events import IndexBuilt, Promoted, PromotionStarted, RolledBack
from vitrine.items import Item
from vitrine.lifecycle import Production, VersionState
from vitrine.ports import Vectors
from vitrine.promotion_build import embed_catalogue
from vitrine.promotion_check import check_counts, check_files, check_health, check_recall
from vitrine.promotion_plan import Plan
from vitrine.promotion_planning import make_plan
from vitrine.promotion_tools import Tools

STARTED = failpoints.point("promote.started", "the history says that a promotion began, nothing is made yet")
WRITTEN = failpoints.point("promote.written", "the collection's files are whole, the history does not name them")
INDEXED = failpoints.point("promote.indexed", "the index is built, what changed meanwhile is not in it")
CHECKED = failpoints.point("promote.checked", "everything is right and checked, production is the old one")
SWITCHED = failpoints.point("promote.switched", "production is the new one, nobody was told yet")


@dataclass
class Promotion(Tools):
    """One run of `plan` and `carry_out`, or of `build`.

    Attributes:
        overrides: gate -> why it may fail.
        prices: `prices` of params.yaml.
    """

    overrides: Mapping[str, str] = field(default_factory=dict)
    prices: Mapping[str, Any] = field(default_factory=dict)

    def plan(self, ref: str, catalogue: str | None = None) -> Plan:
        """Run the gates and measure the work on a sample; see `vitrine.promotion_planning.make_plan`."""
        return make_plan(self, ref, catalogue, self.overrides, self.prices)

    def carry_out(self, plan: Plan) -> Production:
        """Do what the plan says; the last act is the switch.

        Raises:
            Refused: a gate failed, or the embedded catalogue or its index is not sound; the message has the numbers.
            Conflict: somebody changed production meanwhile.
            Unavailable: not enough disk, or the index failed its check or cannot be reached.
        """
        plan.insist()
        if self._build_engine(plan):  # no gate has seen it yet
            plan = self.plan(plan.ref, plan.catalogue)
            plan.insist()
        catalogue = self._synced(plan)
        if plan.incumbent == plan.target and self._finished(plan, catalogue):
            self.publish(plan.model, plan.target)
            return plan.target
        self._append(
            PromotionStarted,
            plan,
            catalogue=plan.catalogue,
            collection=plan.collection,
            verdicts=tuple(asdict(verdict) for verdict in plan.verdicts),
        )
        failpoints.reach(STARTED)
        self._make_ready(plan, catalogue)
        if plan.incumbent != plan.target:  # else it was live already, and servers load what was built anew
            self._switch(plan)
            failpoints.reach(SWITCHED)
        self.publish(plan.model, plan.target)
        return plan.target

    def build(self, plan: Plan) -> Production:
        """All of a promotion but the switch, and whatever the gates say: a candidate to try in shadow mode.

        Raises:
            Refused, Unavailable: as `carry_out`, but for the gates.
        """
        plan.insist_on_disk()
        self._build_engine(plan)
        self._make_ready(plan, self._synced(plan))
        return plan.target

    # --- steps -------------------------------------------------------------------------------------

    def _synced(self, plan: Plan) -> Catalogue:
        """The living catalogue, with what changed in the dataset that the gates looked at."""
        catalogue = open_catalogue(self.home, plan.catalogue, self.track)
        catalogue.sync(find_dataset(self.home, plan.catalogue), self.track)
        return catalogue

    def _finished(self, plan: Plan, catalogue: Catalogue) -> bool:
        """Whether an earlier run made everything and nothing has changed since."""
        collection = self.existing(plan.collection, self._version(plan).digest, catalogue)
        if collection is None or applied_seq(collection, catalogue.deltas) < catalogue.seq:
            return False
        try:
            with closing(self.open_index(collection)) as index:
                catch_up(collection, catalogue, _none_to_embed, index)
                return index.count() == len(content(collection, catalogue.deltas).item_ids)
        except NotFound:  # not built yet
            return False

    def _make_ready(self, plan: Plan, catalogue: Catalogue) -> None:
        """Files, index, changes, checks, changes again."""
        version = self._version(plan)
        kept = self.existing(plan.collection, version.digest, catalogue)
        collection = strip_erased(kept or self._embed(plan, version, catalogue), catalogue)
        self.build_index(collection)
        failpoints.reach(INDEXED)
        with closing(self.open_index(collection)) as index:
            done = catch_up(collection, catalogue, self.embedding(version, catalogue, collection), index, self.track)
            found = content(collection, catalogue.deltas)
            check_counts(found, index, catalogue, done.seq)
            check_recall(found, index, self.settings.min_ann_recall)
            check_files(collection)
            needed = plan.collection in collections_in_use(self.registry.log.read())
            if kept is None or not needed or not _recorded(version, collection):
                self._record_index(plan, collection, len(found.item_ids))
            self.workplace(plan.collection, version.digest).remove()  # not before: it keeps `index gc` off the files
            failpoints.reach(CHECKED)
            catch_up(collection, catalogue, self.embedding(version, catalogue, collection), index, seen=done.seq)

    def _build_engine(self, plan: Plan) -> bool:
        """The serving engine's files, where the precision needs any; whether they were built just now."""
        if self.checked_precision not in backend(self.backend).BUILT:
            return False
        wanted = BuildPlan(self.backend, self.checked_precision)
        return build_engine(self.registry, self.home, plan.ref, wanted, threads=self.threads, track=self.track).fresh

    def _embed(self, plan: Plan, version: VersionState, catalogue: Catalogue) -> Collection:
        """The collection's files, made from the whole catalogue as it is now."""
        seq, items = catalogue.snapshot()
        workplace = self.workplace(plan.collection, version.digest)
        vectors = embed_catalogue(self.encoder(version), catalogue, items, workplace, self.track)
        if "embedding health" not in plan.overridden:
            check_health(plan.ref, vectors, items, self.settings)
        collection = write_collection(
            self.home.collections / plan.collection,
            name=plan.collection,
            catalogue=plan.catalogue,
            catalogue_digest=catalogue.synced,
            model=plan.model,
            version=plan.version,
            digest=version.digest,
            vectors=vectors,
            item_ids=[item.item_id for item in items],
            payloads=[item.payload() for item in items],
            seq=seq,
            history=catalogue.history,
            precision=self.checked_precision,
        )
        failpoints.reach(WRITTEN)
        return collection

    def _record_index(self, plan: Plan, collection: Collection, items: int) -> None:
        """Say in the history that these files are indexed; servers that have older ones load them."""
        self._append(
            IndexBuilt,
            plan,
            catalogue=plan.catalogue,
            catalogue_digest=collection.info.catalogue_digest,
            collection=plan.collection,
            items=items,
            segment=collection.info.segment,
            precision=collection.info.precision,
        )

    def _switch(self, plan: Plan) -> None:
        state = self.registry.state()
        if state.model(plan.model).production != plan.incumbent:
            newest_first = reversed(self.registry.history(plan.model))
            switches = (
                f"{e.actor} {e.sentence()} at {e.at}" for e in newest_first if isinstance(e, Promoted | RolledBack)
            )
            by = next(switches, "nothing is live")
            raise Conflict(
                f"production of {plan.model} changed while this promotion worked: {by}; look at it and promote again: "
                f"vitrine models history {plan.model}"
            )
        event = Promoted(
            model=plan.model,
            version=plan.version,
            catalogue=plan.catalogue,
            collection=plan.collection,
            previous=plan.incumbent.version if plan.incumbent else None,
            why=self.why,
            **self.registry.stamp(),
        )
        self.registry.switch(event, since=state.seq)  # of two promotions at once exactly one wins

    def _version(self, plan: Plan) -> VersionState:
        return self.registry.resolve(plan.ref)

    def _append(self, kind: type, plan: Plan, **fields: Any) -> None:
        stamp = self.registry.stamp()
        self.registry.append(kind(model=plan.model, version=plan.version, why=self.why, **fields, **stamp))


def _recorded(version: VersionState, collection: Collection) -> bool:
    """Whether the history has named these very files."""
    name, segment = collection.info.name, collection.info.segment
    return any((event.collection, event.segment) == (name, segment) for event in version.indexes)


def _none_to_embed(items: Sequence[Item]) -> Vectors:
    raise AssertionError(f"{len(items)} items changed after the last change")  # pragma: no cover
