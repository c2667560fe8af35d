"""Erasing an item from stored results: its id becomes a pseudonym, the numbers stay."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitrine import forgetting_files as files
from vitrine.events import Evaluated, Forgotten
from vitrine.failpoints import point, reach
from vitrine.files import write_atomic
from vitrine.registry import Registry

RENAMED = point("forget.renamed", "the log names the new results, the old ones are there")


@dataclass(frozen=True)
class Results:
    """Results on one catalogue: per-query artifacts, the log's own fields, and the pipeline's files.

    Attributes:
        work: the pipeline's folder.
        pseudonym: what the item is called from now on.
        why: a reason, kept with the event.
    """

    registry: Registry
    work: Path
    catalogue: str
    item_id: str
    pseudonym: str
    why: str = ""

    def _evaluations(self) -> list[tuple[str, Evaluated]]:
        models = self.registry.state().models.items()
        versions = [(name, version) for name, model in models for version in model.versions.values()]
        return [
            (name, one) for name, version in versions for one in version.evaluations if one.dataset == self.catalogue
        ]

    def named(self) -> list[str]:
        """Stored per-query results and files of evaluations that name the item."""
        named = [f"{one.model}@{one.version} {one.protocol} via {one.via}" for _, one in self._named_results()]
        return named + [str(path.relative_to(self.work)) for path, _ in self._result_files()]

    def _named_results(self) -> list[tuple[bytes, Evaluated]]:
        found = []
        for _, one in self._evaluations():
            if self.registry.artifacts.has(one.per_query):
                changed = self._renamed(self.registry.artifacts.read(one.per_query))
                found += [(changed, one)] if changed is not None else []
        return found

    def _renamed(self, parquet: bytes) -> bytes | None:
        return files.pseudonymised(parquet, self.item_id, self.pseudonym)

    def _redacted(self, fields: dict[str, Any]) -> dict[str, Any]:
        changed: dict[str, Any] = files.renamed_examples(fields, self.item_id, self.pseudonym)
        return changed

    def _renamed_json(self, path: Path) -> bytes | None:
        text = files.renamed_json(path, self.item_id, self.pseudonym) if path.suffix == ".json" else None
        return None if text is None else text.encode()

    def _result_files(self) -> list[tuple[Path, bytes]]:
        """Evaluations of the pipeline that name the item, with what they shall hold."""
        found = []
        for path in sorted((self.work / "evaluations").glob(f"*--{self.catalogue}/*")):
            parquet = path.suffix == ".parquet"
            changed = self._renamed(path.read_bytes()) if parquet else self._renamed_json(path)
            found += [(path, changed)] if changed is not None else []
        return found

    def rename(self) -> None:
        """Give the item its pseudonym everywhere; old results go once the log names the new ones."""
        for path, changed in self._result_files():
            write_atomic(path, changed)
        renamed: dict[str, dict[str, str]] = {}
        for changed, one in self._named_results():
            renamed.setdefault(one.model, {})[one.per_query] = self.registry.artifacts.put_bytes(changed)
        for model, results in renamed.items():
            stamp = self.registry.stamp()
            self.registry.append(
                Forgotten(model=model, catalogue=self.catalogue, results=results, why=self.why, **stamp)
            )
        reach(RENAMED)
        self.registry.log.redact(self._redacted)
        kept = {one.per_query for _, one in self._evaluations()}
        for event in self.registry.log.read():
            for old in event.results if isinstance(event, Forgotten) and event.catalogue == self.catalogue else ():
                if old not in kept:
                    self.registry.artifacts.remove(old)
