"""Where things lie: `VITRINE_HOME` (default `.vitrine`) and the folder of imported datasets."""

from __future__ import annotations

import getpass
import os
import socket
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
        artifacts_url: fsspec URL of the artifacts (see `vitrine.artifacts_remote`); "" for the folder under the root.
        engines_folder: where built engines lie; None for the folder under the root.
    """

    root: Path
    registry_url: str
    datasets: Path
    qdrant_url: str = ""
    artifacts_url: str = ""
    engines_folder: Path | None = None

    @property
    def artifacts(self) -> Path:
        """Content-addressed files, unless `artifacts_url` names another place."""
        return self.root / "artifacts"

    @property
    def collections(self) -> Path:
        """Embedded catalogues, one folder a collection."""
        return self.root / "collections"

    @property
    def engines(self) -> Path:
        """Files built for this machine's backends, one folder an engine."""
        return self.engines_folder or self.root / "engines"


def find_home(environ: Mapping[str, str] = os.environ) -> Home:
    """The installation that the environment names; relative to the working directory by default."""
    root, engines = Path(environ.get("VITRINE_HOME", ".vitrine")), environ.get("VITRINE_ENGINES")
    return Home(
        root=root,
        registry_url=environ.get("VITRINE_REGISTRY_URL") or f"sqlite:///{root / 'registry.db'}",
        datasets=Path(environ.get("VITRINE_DATASETS", "data")),
        qdrant_url=environ.get("QDRANT_URL", ""),
        artifacts_url=environ.get("VITRINE_ARTIFACTS_URL", ""),
        engines_folder=Path(engines) if engines else None,
    )


def find_actor(environ: Mapping[str, str] = os.environ) -> str:
    """Who acts, for the history: `VITRINE_ACTOR`, else user@host."""
    return environ.get("VITRINE_ACTOR") or f"{_user()}@{socket.gethostname()}"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run as a user without a name
        return f"uid-{os.getuid()}"
