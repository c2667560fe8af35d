"""Where things lie: `VITRINE_HOME` (default `.vitrine`) and the folder of imported datasets."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Home:
    """Folders and addresses of one installation.

    Attributes:
        root: registry, artifacts and collections live under it.
        registry_url: SQLAlchemy URL of the event log.
        datasets: imported datasets, one folder each.
        qdrant_url: a Qdrant server, or "" for the embedded engine.
    """

    root: Path
    registry_url: str
    datasets: Path
    qdrant_url: str = ""

    @property
    def artifacts(self) -> Path:
        """Content-addressed files."""
        return self.root / "artifacts"

    @property
    def collections(self) -> Path:
        """Embedded catalogues, one folder a collection."""
        return self.root / "collections"

    @property
    def engines(self) -> Path:
        """Files built for this machine's backends, one folder an engine."""
        return self.root / "engines"


def find_home(environ: Mapping[str, str] = os.environ) -> Home:
    """The installation that the environment names; relative to the working directory by default."""
    root = Path(environ.get("VITRINE_HOME", ".vitrine"))
    return Home(
        root=root,
        registry_url=environ.get("VITRINE_REGISTRY_URL", f"sqlite:///{root / 'registry.db'}"),
        datasets=Path(environ.get("VITRINE_DATASETS", "data")),
        qdrant_url=environ.get("QDRANT_URL", ""),
    )
