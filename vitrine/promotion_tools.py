"""What promotion and rollback work with: the registry, the home, loaded engines, collections and their indexes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from vitrine.bundle import Bundle
from vitrine.catalogue import Catalogue
from vitrine.catchup import when_needed
from vitrine.collection import Collection, open_collection
from vitrine.encoder import Encoder, load_encoder
from vitrine.engine_agreement import load_agreeing
from vitrine.engine_auto import choose
from vitrine.engines import agree, check_precision
from vitrine.errors import NotFound, Tampered, Unavailable
from vitrine.gates import GateSettings
from vitrine.home import Home
from vitrine.index_choice import build_index, open_index, publish_index
from vitrine.items import Item
from vitrine.lifecycle import Production, VersionState
from vitrine.ports import Index, Precision, Vectors
from vitrine.progress import Track, quiet
from vitrine.promotion_build import Workplace
from vitrine.registry import Registry


@dataclass
class Tools:
    """One command's view of an installation.

    Attributes:
        threads: of the engine that embeds.
        serving_threads: of a server's engine; budgets of time are measured with them.
        index: the kind of index that searches the collections.
        why: kept with every event.
        backend, precision: the engine that will serve, and that embeds the catalogue; "" is the backend's default, backend
            `auto` the quickest that is ready here.
    """

    registry: Registry
    home: Home
    settings: GateSettings
    threads: int = 2
    serving_threads: int = 2
    index: str = "exact"
    track: Track = quiet
    why: str = ""
    backend: str = "onnxruntime"
    precision: str = ""
    _encoders: dict[tuple[str, int], Encoder] = field(default_factory=dict)

    def settle(self, version: VersionState) -> None:
        """`auto` becomes the engine that is the quickest here now, as when a server loads the version.

        Raises:
            Unavailable: none can be loaded here.
        """
        if self.backend == "auto":
            chosen = choose(
                self._open(version),
                engines=self.home.engines,
                threads=self.serving_threads,
                precision=self.precision,
                track=self.track,
            )
            self.backend, self.precision = chosen.backend, chosen.precision

    def encoder(self, version: VersionState) -> Encoder:
        """The version on the engine that will serve, with the threads that embed; loaded once."""
        return self._loaded(version, self.threads)

    def serving_encoder(self, version: VersionState) -> Encoder:
        """The version as a server loads it: the same engine with a server's threads."""
        return self._loaded(version, self.serving_threads)

    def _loaded(self, version: VersionState, threads: int) -> Encoder:
        key = (version.digest, threads)
        if key not in self._encoders:
            self._encoders[key] = load_encoder(
                self._open(version),
                backend=self.backend,
                precision=self.precision,
                threads=threads,
                engines=self.home.engines,
            )
        return self._encoders[key]

    def _open(self, version: VersionState) -> Bundle:
        return self.registry.open(f"{version.registered.model}@{version.number}")

    def embedding(
        self, version: VersionState, catalogue: Catalogue, collection: Collection
    ) -> Callable[[Sequence[Item]], Vectors]:
        """What embeds changes for a collection of this version; the engine is loaded only if something must be embedded."""
        return when_needed(lambda: self._encoder_of(version, collection.info.precision), catalogue)

    def _encoder_of(self, version: VersionState, embedded: str) -> Encoder:
        """The engine that will serve, or one that agrees with vectors of another precision."""
        if agree(self.checked_precision, embedded):
            return self.encoder(version)
        return load_agreeing(
            self._open(version),
            embedded,
            backend=self.backend,
            precision=self.precision,
            threads=self.threads,
            engines=self.home.engines,
        )

    def existing(self, name: str, digest: str, catalogue: Catalogue) -> Collection | None:
        """The collection, if an earlier run finished it, it follows this catalogue, and is undamaged.

        Its precision has to agree with the one that will serve.
        """
        try:
            collection = open_collection(self.home.collections / name)
            collection.verify()
        except (NotFound, Tampered):
            return None
        same = (collection.info.digest, collection.info.history) == (digest, catalogue.history)
        return collection if same and agree(self.checked_precision, collection.info.precision) else None

    def workplace(self, name: str, digest: str) -> Workplace:
        """Where vectors of an unfinished collection are kept; those of another engine are not mixed with them."""
        engine = f"{self.backend} {self.checked_precision}"
        return Workplace(self.home.root / "building" / name, f"{digest} {engine}")

    @property
    def checked_precision(self) -> Precision:
        """The precision that will serve, by its name.

        Raises:
            BadInput: the backend does not run it.
        """
        return check_precision(self.backend, self.precision)

    def build_index(self, collection: Collection) -> None:
        """Make the collection searchable; what an interrupted run began is finished."""
        build_index(collection, self.home, self.index)

    def open_index(self, collection: Collection) -> Index:
        """Open it for searching.

        Raises:
            NotFound: it was never built, or dropped.
        """
        return open_index(collection, self.home, self.index)

    def publish(self, model: str, production: Production) -> None:
        """Let other people's programs find what is live; called after a switch, which stays whatever becomes of this.

        Raises:
            Unavailable: the index server cannot be reached; `vitrine index sync` does it later.
        """
        try:
            publish_index(open_collection(self.home.collections / production.collection), self.home, self.index)
        except Unavailable as error:
            raise Unavailable(
                f"{model}@{production.version} is live, but other programs' name for its collection leads to the one "
                f"before: {error}; when the index server answers again, run: vitrine index sync {production.catalogue}"
            ) from error
