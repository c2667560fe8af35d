"""The registry: versions as artifacts, everything that happens to them as events.

Files come first and the event last, so that whatever the log names can be opened. A registration is
known by its content: the same bundle under the same name is the same version, however often it comes.
"""

from __future__ import annotations

import getpass
import json
import math
import os
import random
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from vitrine import audit
from vitrine.artifacts import ArtifactStore
from vitrine.bundle import Bundle, Parity
from vitrine.errors import BadInput, Conflict, Refused, Tampered
from vitrine.eventlog import EventLog
from vitrine.events import AliasMoved, Evaluated, Event, Registered, Retired, to_payload
from vitrine.home import Home
from vitrine.lifecycle import ModelState, State, VersionState, advance, check_promotion
from vitrine.manifest import Manifest
from vitrine.names import Ref, check_alias, check_name, parse_ref

_E = TypeVar("_E", bound=Event)
_TRIES = 50


class Registry:
    """Register, resolve, open and verify versions. Safe for several threads and processes."""

    def __init__(self, log: EventLog, artifacts: ArtifactStore, actor: str) -> None:
        self.log = log
        self.artifacts = artifacts
        self.actor = actor
        self._state = State()
        self._lock = threading.Lock()

    def state(self) -> State:
        """What the events say now. A state once returned does not change any more."""
        with self._lock:
            events = self.log.read(after=self._state.seq)
            if events:
                self._state = advance(self._state, events)
            return self._state

    def now(self) -> str:
        """The time in UTC, ISO 8601 with microseconds."""
        return datetime.now(UTC).isoformat(timespec="microseconds")

    def stamp(self) -> dict[str, Any]:
        """`at` and `actor` for a new event."""
        return {"at": self.now(), "actor": self.actor}

    def append(self, *events: Event, expected_seq: int | None = None) -> list[Event]:
        """Add events, all or none; returns them with `seq` set.

        `expected_seq` is the state on which the caller decided; the present one by default.

        Raises:
            Conflict: somebody else was first, or the events contradict the state.
            NotFound: an event is about a version that does not exist.
        """
        state = self.state()
        seq = state.seq if expected_seq is None else expected_seq
        for event in events:
            check_promotion(state, event)
        if seq == state.seq:
            advance(state, events)
        return self.log.append(events, expected_seq=seq)

    def register(
        self,
        name: str,
        bundle: Bundle,
        *,
        version: int | None = None,
        lineage: Mapping[str, Any] | None = None,
        why: str = "",
    ) -> Registered:
        """Make a bundle a version of `name`; the same content again returns the event there is.

        Args:
            name: the model; it begins with its first version.
            bundle: a verified bundle.
            version: a number of one's own; the next one by default.
            lineage: facts beside the bundle's own, such as `collect_lineage()`.
            why: a reason, kept with the event.

        Raises:
            BadInput: the name or the number is not allowed.
            Conflict: the number is taken, or the content is registered under another one.
        """
        check_name(name, "model name")
        if version is not None and version < 1:
            raise BadInput(f"{version} is no version number: versions are 1, 2, 3, ...", field="version")
        self._store(bundle)
        for attempt in range(_TRIES):
            state = self.state()
            model = state.models.get(name, ModelState(name))
            known = model.by_digest(bundle.manifest.digest)
            if known is not None:
                return _same_number(known.registered, version)
            event = self._registered(model, bundle, version, lineage or {}, why)
            try:
                return _one(Registered, self.append(event, expected_seq=state.seq))
            except Conflict:
                # Registrations do not disturb each other: look again and take the next number.
                if attempt == _TRIES - 1:
                    raise
                time.sleep(random.uniform(0, 0.02))
        raise AssertionError  # pragma: no cover

    def resolve(self, ref: str | Ref) -> VersionState:
        """The version that `name`, `name@7` or `name@alias` means now.

        Raises:
            BadInput: no reference.
            NotFound: no such model, version or alias.
        """
        return self.state().resolve(parse_ref(ref) if isinstance(ref, str) else ref)

    def open(self, ref: str | Ref) -> Bundle:
        """The version's bundle; every byte was compared with its digest just now.

        Raises:
            NotFound: no such version, or one of its files is missing.
            Tampered: bytes differ from what was registered.
        """
        return self._open(self.resolve(ref).registered)

    def history(self, name: str) -> list[Event]:
        """Everything that happened to a model, oldest first.

        Raises:
            NotFound: no such model.
        """
        self.state().model(name)
        return self.log.read(model=name)

    def set_alias(self, name: str, alias: str, version: int, *, why: str = "") -> AliasMoved:
        """Point a user's alias at a version; `production` is refused, promotion moves it.

        Raises:
            BadInput: an alias that is not allowed.
            NotFound: no such version.
        """
        check_alias(alias)
        self.resolve(Ref(name, version))
        event = AliasMoved(model=name, alias=alias, version=version, why=why, **self.stamp())
        return _one(AliasMoved, self.append(event))

    def retire(self, ref: str | Ref, *, why: str) -> Retired:
        """Keep a version from being promoted from now on; what is live cannot be retired.

        Raises:
            NotFound: no such version.
            Refused: it is in production.
        """
        state = self.state()
        parsed = parse_ref(ref) if isinstance(ref, str) else ref
        number, live = state.resolve(parsed).number, state.model(parsed.name).production
        if live is not None and live.version == number:
            raise Refused(
                f"{parsed.name}@{number} is in production; first: "
                f"vitrine rollback {parsed.name} (or promote another version)"
            )
        event = Retired(model=parsed.name, version=number, why=why, **self.stamp())
        return _one(Retired, self.append(event, expected_seq=state.seq))

    def record_evaluation(
        self,
        name: str,
        version: int,
        *,
        dataset: str,
        dataset_digest: str,
        protocol: str,
        via: str,
        metrics: Mapping[str, float | None],
        queries: int,
        gallery: int,
        per_query_path: Path,
        details: Mapping[str, Any],
        why: str = "",
    ) -> Evaluated:
        """Keep an evaluation and its per-query parquet; the newest one of its kind again is no event.

        A metric without a value (None, NaN) is left out.

        Raises:
            NotFound: no such version or parquet file.
        """
        event = Evaluated(
            model=name,
            version=version,
            dataset=dataset,
            dataset_digest=dataset_digest,
            protocol=protocol,
            via=via,
            metrics=_known(metrics),
            queries=queries,
            gallery=gallery,
            per_query=self.artifacts.put_file(per_query_path),
            details=dict(details),
            why=why,
            **self.stamp(),
        )
        newest = self.resolve(Ref(name, version)).evaluation(dataset, protocol, via)
        if newest is not None and _content(newest) == _content(event):
            return newest
        return _one(Evaluated, self.append(event))

    def verify(self, ref: str | Ref | None = None) -> list[str]:
        """Read files and events again; returns one sentence a problem, none if all is well.

        Args:
            ref: one version; without it every version, every stored file and the whole log.
        """
        if ref is not None:
            return audit.version_problems(self.artifacts, self.resolve(ref), {})
        return audit.problems(self.artifacts, self.log.read())

    def _registered(
        self, model: ModelState, bundle: Bundle, version: int | None, lineage: Mapping[str, Any], why: str
    ) -> Registered:
        number = version or max(model.versions, default=0) + 1
        if number in model.versions:
            raise Conflict(
                f"{model.name}@{number} exists already with other content ({model.versions[number].digest[:12]}); "
                "a version never changes: leave the number out to get the next one"
            )
        return Registered(
            model=model.name,
            version=number,
            digest=bundle.manifest.digest,
            lineage={**bundle.lineage, **lineage},
            parity=asdict(bundle.parity) if bundle.parity else None,
            why=why,
            **self.stamp(),
        )

    def _store(self, bundle: Bundle) -> None:
        for ref in bundle.manifest.files():
            if self.artifacts.put_file(bundle.path(ref)) != ref.sha256:
                raise Tampered(
                    f"{ref.path} at {bundle.path(ref)} changed while it was registered; make the bundle again"
                )
        self.artifacts.put_bytes(bundle.manifest.to_json().encode())

    def _open(self, event: Registered) -> Bundle:
        manifest = Manifest.from_json(self.artifacts.read(event.digest).decode())
        paths = {ref.path: self.artifacts.path(ref.sha256) for ref in manifest.files()}
        return Bundle(manifest, paths, event.lineage, Parity(**event.parity) if event.parity else None)


def open_registry(home: Home) -> Registry:
    """The registry of an installation, made if there is none; the actor is `VITRINE_ACTOR` or user@host."""
    actor = os.environ.get("VITRINE_ACTOR") or f"{_user()}@{socket.gethostname()}"
    return Registry(EventLog(home.registry_url), ArtifactStore(home.artifacts), actor)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run as a user without a name
        return f"uid-{os.getuid()}"


def _same_number(event: Registered, version: int | None) -> Registered:
    if version not in {None, event.version}:
        raise Conflict(
            f"this content is registered as {event.model}@{event.version} already and cannot be version {version} "
            f"too; use {event.model}@{event.version}"
        )
    return event


def _content(event: Event) -> str:
    # As text, the way the log keeps it: a tuple that came back as a list is the same fact.
    return json.dumps(to_payload(event), sort_keys=True)


def _known(metrics: Mapping[str, float | None]) -> dict[str, float]:
    return {key: float(value) for key, value in metrics.items() if value is not None and math.isfinite(value)}


def _one(kind: type[_E], events: list[Event]) -> _E:
    assert isinstance(events[0], kind)
    return events[0]
