"""The registry: versions as artifacts, everything that happens to them as events.

Files come first and the event last, so that whatever the log names can be opened. A registration is
known by its content: the same bundle under the same name is the same version, however often it comes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vitrine import audit, failpoints, versions
from vitrine.artifacts import ArtifactStore
from vitrine.artifacts_remote import open_artifacts
from vitrine.bundle import Bundle
from vitrine.errors import BadInput, Refused
from vitrine.eventlog import EventLog
from vitrine.events import AliasMoved, Evaluated, Event, Promoted, Registered, Retired, RolledBack, to_payload
from vitrine.home import Home, find_actor
from vitrine.ledger import Ledger, only
from vitrine.lifecycle import ModelState, State, VersionState
from vitrine.names import Ref, check_alias, check_name, parse_ref

STORED = failpoints.point("register.stored", "every file of the version is in the artifacts, no event names it yet")
REGISTERED = failpoints.point("register.registered", "the event is in the log")


class Registry(Ledger):
    """Register, resolve, open and verify versions. Safe for several threads and processes."""

    def __init__(self, log: EventLog, artifacts: ArtifactStore, actor: str) -> None:
        super().__init__(log, actor)
        self.artifacts = artifacts

    def register(
        self,
        name: str,
        bundle: Bundle,
        *,
        version: int | None = None,
        above: int = 0,
        lineage: Mapping[str, Any] | None = None,
        why: str = "",
    ) -> Registered:
        """Make a verified bundle a version of `name`; the same content again returns the event there is.

        Args:
            name: the model; it begins with its first version.
            bundle: the content.
            version: a number of one's own; the next one by default.
            above: a number that was given once, though this registry may not know it: the next one is over it.
            lineage: facts beside the bundle's own, such as `collect_lineage()`.
            why: a reason, kept with the event.

        Raises:
            BadInput: the name or the number is not allowed.
            Conflict: the number is taken, or the content is registered under another one.
        """
        check_name(name, "model name")
        if version is not None and version < 1:
            raise BadInput(f"{version} is no version number: versions are 1, 2, 3, ...", field="version")
        versions.store(self.artifacts, bundle)
        failpoints.reach(STORED)

        def known(state: State) -> Registered | None:
            there = state.models.get(name, ModelState(name)).by_digest(bundle.manifest.digest)
            return versions.same_number(there.registered, version) if there else None

        def make(state: State) -> Registered:
            model = state.models.get(name, ModelState(name))
            return versions.draft(model, bundle, version, above, lineage or {}, why=why, **self.stamp())

        event = self.once(Registered, known, make)
        failpoints.reach(REGISTERED)
        return event

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
        return versions.load(self.artifacts, self.resolve(ref))

    def history(self, name: str) -> list[Event]:
        """Everything that happened to a model, oldest first.

        Raises:
            NotFound: no such model.
        """
        self.state().model(name)
        return self.log.read(model=name)

    def set_alias(self, name: str, alias: str, version: int, *, why: str = "", since: int | None = None) -> AliasMoved:
        """Point a user's alias at a version; `production` is refused, promotion moves it.

        Args:
            name: the model.
            alias: the word.
            version: what it shall mean.
            why: a reason, kept with the event.
            since: the last event that the caller has seen, by default the present one. Of several who saw the same
                and move the same alias, exactly one wins.

        Raises:
            BadInput: an alias that is not allowed.
            NotFound: no such version.
            Conflict: somebody moved this alias after `since`; the message says who.
        """
        check_alias(alias)
        seen = self.state().seq if since is None else since

        def move(state: State) -> list[Event]:
            state.resolve(Ref(name, version))
            self.unless(name, seen, lambda e: isinstance(e, AliasMoved) and e.alias == alias)
            return [AliasMoved(model=name, alias=alias, version=version, why=why, **self.stamp())]

        return only(AliasMoved, self.settle(move))

    def switch(self, event: Promoted | RolledBack, *, since: int) -> Event:
        """Make another version live: of several who decided on the same production, exactly one wins.

        Args:
            event: the switch.
            since: the last event of the state on which it was decided. What does not concern the model's production
                may have happened meanwhile.

        Raises:
            Conflict: production was switched after `since`; the message says by whom.
        """

        def decide(_state: State) -> list[Event]:
            self.unless(event.model, since, lambda e: isinstance(e, Promoted | RolledBack))
            return [event]

        return self.settle(decide)[0]

    def retire(self, ref: str | Ref, *, why: str) -> Retired:
        """Keep a version from being promoted from now on; what is live cannot be retired.

        Raises:
            NotFound: no such version.
            Refused: it is in production.
        """
        parsed = parse_ref(ref) if isinstance(ref, str) else ref
        number = self.resolve(parsed).number

        def leave(state: State) -> list[Event]:
            live = state.model(parsed.name).production
            if live is not None and live.version == number:
                raise Refused(
                    f"{parsed.name}@{number} is in production; first: "
                    f"vitrine rollback {parsed.name} (or promote another version)"
                )
            return [Retired(model=parsed.name, version=number, why=why, **self.stamp())]

        return only(Retired, self.settle(leave))

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

        def known(state: State) -> Evaluated | None:
            newest = state.resolve(Ref(name, version)).evaluation(dataset, protocol, via)
            return newest if newest is not None and _content(newest) == _content(event) else None

        return self.once(Evaluated, known, lambda _state: event)

    def verify(self, ref: str | Ref | None = None) -> list[str]:
        """Read files and events again; returns one sentence a problem, none if all is well.

        Args:
            ref: one version; without it every version, every stored file and the whole log.
        """
        if ref is not None:
            return audit.version_problems(self.artifacts, self.resolve(ref), {})
        return audit.problems(self.artifacts, self.log.read())


def open_registry(home: Home) -> Registry:
    """The registry of an installation, made if there is none."""
    return Registry(EventLog(home.registry_url), open_artifacts(home), find_actor())


def _content(event: Event) -> str:
    # As text, the way the log keeps it: a tuple that came back as a list is the same fact.
    return json.dumps(to_payload(event), sort_keys=True)


def _known(metrics: Mapping[str, float | None]) -> dict[str, float]:
    return {key: float(value) for key, value in metrics.items() if value is not None and math.isfinite(value)}
