"""The commands of an installation's life: how each is called, where it can be killed, and when it is done.

Each function looks at a shop, changes the world outside Vitrine where the command needs that, and returns what to run.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from tests.crash import warm
from tests.crash.shop import CATALOGUE, MODEL, Shop
from tests.factories import photo
from tests.services.conftest import running
from vitrine import registry_gc
from vitrine.bundle import read_bundle
from vitrine.catalogue import open_catalogue
from vitrine.catchup import applied_seq
from vitrine.collection import POINTER, open_collection
from vitrine.collection_audit import collection_folders
from vitrine.collection_gc import plan_gc
from vitrine.dataset import find_dataset
from vitrine.engines import all_records
from vitrine.export_file import read_export
from vitrine.gates import FIRM, GATES
from vitrine.lifecycle import Production
from vitrine.storing import photo_name
from vitrine.v1 import catalogue_pb2, catalogue_pb2_grpc, common_pb2

_CATCH_UP = ("catchup.embedded", "catchup.written")
_BUILD = (
    "promote.chunk",
    "promote.embedded",
    "collection.segment",
    "promote.written",
    "promote.indexed",
    "promote.checked",
)
_OVERRIDES = tuple(
    word for gate in GATES if gate not in FIRM for word in ("--override", gate)
)  # fmt: skip


@dataclass(frozen=True)
class Operation:
    """One command, ready to run.

    Attributes:
        name: for the table.
        work: what runs in the process that is killed, and again when it is repeated.
        points: the named moments that it passes.
        left_to_do: what it has not done, as a sentence; "" when it is finished.
        productions: what may be live while it runs.
        codes: exit codes of a repetition; 4 where all was done before it died.
    """

    name: str
    work: Callable[[], None]
    points: tuple[str, ...]
    left_to_do: Callable[[], str]
    productions: tuple[Production, ...]
    codes: tuple[int, ...] = (0,)
    told: str = field(default="")


def register(shop: Shop) -> Operation:
    """A new version."""
    folder = shop.bundle()
    digest, before = read_bundle(shop.root / folder).manifest.digest, len(shop.model.versions)

    def left() -> str:
        found = [version for version in shop.model.versions.values() if version.digest == digest]
        sound = len(found) == 1 and len(shop.model.versions) == before + 1
        return "" if sound else f"{len(found)} versions have the new content"

    points = ("register.stored", "register.registered")
    return _command(shop, "register", ("models", "register", folder, "--name", MODEL), points, left)


def evaluate(shop: Shop) -> Operation:
    """Measure a version and record it."""
    number, digest = _any_version(shop), find_dataset(shop.home, CATALOGUE).digest

    def left() -> str:
        newest = shop.model.versions[number].evaluation(CATALOGUE, "default", "exact")
        return "" if newest and newest.dataset_digest == digest else "the measurement is not recorded"

    arguments = ("evaluate", f"{MODEL}@{number}", "--dataset", CATALOGUE, "--via", "exact")
    return _command(shop, "evaluate", arguments, (), left)


def build_engine(shop: Shop) -> Operation:
    """An int8 engine of a version; random weights do not always survive the rounding, those of the first do."""
    number = 1

    def left() -> str:
        version = shop.model.versions[number]
        built = [record for _, record in all_records(shop.home.engines) if record.key.digest == version.digest]
        return "" if built and version.engines else "the engine is not built or not recorded"

    arguments = ("engine", "build", f"{MODEL}@{number}", "--precision", "int8", "--rows", "8", "--again")
    return _command(shop, "engine build", arguments, ("engine.built",), left)


def promote(shop: Shop) -> Operation:
    """Another version goes live."""
    live, number = shop.live, _other_version(shop)

    def left() -> str:
        return "" if shop.live.version == number else f"version {shop.live.version} is live, not {number}"

    after = Production(number, CATALOGUE, f"{CATALOGUE}--{MODEL}--{number}")
    points = ("promote.started", *_BUILD, "promote.switched", *_CATCH_UP)
    return _command(shop, "promote", promotion(number), points, left, (live, after))


def build_only(shop: Shop) -> Operation:
    """A candidate's collection, without the switch."""
    number = _other_version(shop)
    name = f"{CATALOGUE}--{MODEL}--{number}"

    def left() -> str:
        return "" if any(e.collection == name for e in shop.model.versions[number].indexes) else "it is not recorded"

    return _command(shop, "promote --build-only", (*promotion(number), "--build-only"), _BUILD, left)


def roll_back(shop: Shop) -> Operation | None:
    """Back to what was live before."""
    live, before = shop.live, shop.model.before_production
    if before is None or not (shop.home.collections / before.collection / POINTER).is_file():
        return None  # nothing was live before, or a clean-up took its collection: it is promoted anew then

    def left() -> str:
        return "" if shop.live == before else f"{shop.live} is live, not {before}"

    arguments = ("rollback", MODEL, "--from", str(live.version))
    points = (*_CATCH_UP, "rollback.caught_up", "rollback.switched")
    return _command(shop, "rollback", arguments, points, left, (live, before))


def import_dataset(shop: Shop) -> Operation:
    """The shop's changed export takes the place of the older one."""
    shop.change_photos()
    wanted = {path.relative_to(shop.root / "photos").as_posix() for path in (shop.root / "photos").rglob("*.jpg")}

    def left() -> str:
        items = find_dataset(shop.home, CATALOGUE).items
        return "" if len(items) == len(wanted) else f"{len(items)} items of {len(wanted)} photos"

    arguments = ("data", "import", "image-folder", "photos", "--name", CATALOGUE, "--force")
    return _command(shop, "data import", arguments, (), left)


def sync(shop: Shop) -> Operation:
    """What changed in the dataset, in the catalogue and in every collection in use."""

    def left() -> str:
        catalogue = open_catalogue(shop.home, CATALOGUE)
        if catalogue.synced != find_dataset(shop.home, CATALOGUE).digest:
            return "the catalogue is not that of the dataset"
        behind = applied_seq(shop.collection(shop.live), catalogue.deltas) < catalogue.seq
        return "the live collection is behind" if behind else ""

    points = ("catalogue.changed", *_CATCH_UP, "collection.segment")
    return _command(shop, "index sync", ("index", "sync", CATALOGUE), points, left)


def upsert(shop: Shop) -> Operation:
    """A server changes items: it is the process that dies."""
    number = shop.next_number()
    item_id, data = f"sent-{number}", photo(70_000 + number)

    def work() -> None:
        message = catalogue_pb2.CatalogueItem(item=common_pb2.Item(id=item_id, images=[common_pb2.Image(data=data)]))
        with running(shop.home) as server, grpc.insecure_channel(server.address) as channel:
            stub = catalogue_pb2_grpc.CatalogueStub(channel)
            stub.Upsert(catalogue_pb2.UpsertRequest(items=[message]), timeout=30)

    def left() -> str:
        item = open_catalogue(shop.home, CATALOGUE).find([item_id]).get(item_id)
        return "" if item and item.images == (photo_name(data),) else "the item is not in the catalogue"

    return Operation("Upsert (server)", work, ("catalogue.photos", "catalogue.changed", *_CATCH_UP), left, (shop.live,))


def forget(shop: Shop) -> Operation:
    """An item is erased everywhere."""
    item_id = shop.random.choice(shop.item_ids())

    def left() -> str:
        kept = {change.item_id for change in open_catalogue(shop.home, CATALOGUE).changes(0)}
        kept |= {item.item_id for item in find_dataset(shop.home, CATALOGUE).items}
        folders = collection_folders(shop.home.collections)
        kept |= {one for folder in folders for one in open_collection(folder).item_ids}
        return f"{item_id} is still there" if item_id in kept else ""

    arguments = ("data", "forget", item_id, "--catalogue", CATALOGUE, "--reason", "its seller asked")
    steps = (
        "announced",
        "journal",
        "tombstone",
        "dataset",
        "artifacts",
        "features",
        "collections",
        "results",
        "purged",
    )
    points = (*(f"forget.{step}" for step in steps), "forget.renamed", "collection.segment")
    return _command(shop, "data forget", arguments, points, left, codes=(0, 4))


def index_gc(shop: Shop) -> Operation:
    """Collections that nobody needs go."""

    def left() -> str:
        return ", ".join(removal.name for removal in plan_gc(shop.registry, shop.home, old_s=0))

    arguments = ("index", "gc", "--older-than", "0")
    return _command(shop, "index gc", arguments, ("index.gc.index", "index.gc.moved"), left)


def models_gc(shop: Shop) -> Operation:
    """Artifacts that nobody names go; a few are there by then."""
    for _ in range(3):
        shop.registry.artifacts.put_bytes(f"nobody names {shop.next_number()}".encode())

    def left() -> str:
        return ", ".join(
            f"{one.kind} {one.file.name}" for one in registry_gc.plan_gc(shop.registry, shop.home, recent_s=0)
        )

    return _command(shop, "models gc", ("models", "gc", "--yes", "--older-than", "0"), ("models-gc.removed",), left)


def export(shop: Shop) -> Operation:
    """A version as one file; the older export under that name is replaced."""
    number, path = _any_version(shop), shop.root / "export.tar"

    def left() -> str:
        with tempfile.TemporaryDirectory() as folder:
            header, _ = read_export(path, Path(folder))
        beside = [one.name for one in shop.root.glob("*export.tar*") if one != path]
        return "" if header.version == number and not beside else f"version {header.version}, and {beside} beside it"

    return _command(shop, "models export", ("models", "export", f"{MODEL}@{number}", path.name, "--history"), (), left)


def import_version(shop: Shop) -> Operation:
    """A version of somebody else's, with its measurements."""
    name = f"foreign-{shop.next_number()}"

    def left() -> str:
        model = shop.registry.state().models.get(name)
        return "" if model and model.versions[1].evaluations else "the version or its measurement is not here"

    points = ("import.verified", "register.stored", "register.registered", "import.registered")
    return _command(shop, "models import", ("models", "import", "foreign.tar", "--name", name), points, left)


OPERATIONS: Mapping[str, Callable[[Shop], Operation | None]] = {
    "register": register, "evaluate": evaluate, "engine build": build_engine, "promote": promote,
    "promote --build-only": build_only, "rollback": roll_back, "data import": import_dataset, "index sync": sync,
    "Upsert (server)": upsert, "data forget": forget, "index gc": index_gc, "models gc": models_gc,
    "models export": export, "models import": import_version,
}  # fmt: skip


def _command(
    shop: Shop,
    name: str,
    arguments: tuple[str, ...],
    points: tuple[str, ...],
    left_to_do: Callable[[], str],
    productions: tuple[Production, ...] = (),
    codes: tuple[int, ...] = (0,),
) -> Operation:
    told = f"vitrine {' '.join(arguments)}"
    return Operation(name, warm.command(*arguments), points, left_to_do, productions or (shop.live,), codes, told)


def promotion(number: int) -> tuple[str, ...]:
    """Arguments that promote a version whatever its random weights are worth."""
    reason = ("--reason", "weights are random here")
    return ("promote", f"{MODEL}@{number}", "--catalogue", CATALOGUE, *_OVERRIDES, *reason)


def _any_version(shop: Shop) -> int:
    return shop.random.choice(sorted(shop.model.versions))


def _other_version(shop: Shop) -> int:
    """Any but the live one, the newest as often as all others."""
    others = [number for number in sorted(shop.model.versions) if number != shop.live.version]
    return shop.random.choice([max(others), shop.random.choice(others)])
