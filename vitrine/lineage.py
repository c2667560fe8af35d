"""Where a version came from, beyond what its bundle says: code, pipeline and library versions."""

from __future__ import annotations

import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from vitrine.files import sha256_file

LIBRARIES = ("torch", "timm", "open_clip_torch", "onnx", "onnxruntime", "numpy", "vitrine-embeddings")


def collect_lineage(root: Path = Path()) -> dict[str, Any]:
    """Facts about the working tree at `root`, as far as there are any.

    Returns:
        `git_commit` and `git_dirty` (tracked files changed) in a git checkout, `dvc_lock` (sha256) with a
        pipeline that has run, and `libraries` (name -> installed version).
    """
    facts: dict[str, Any] = {"libraries": _libraries()}
    commit = _git(root, "rev-parse", "HEAD")
    if commit:
        facts["git_commit"] = commit
        facts["git_dirty"] = bool(_git(root, "status", "--porcelain", "--untracked-files=no"))
    if (root / "dvc.lock").is_file():
        facts["dvc_lock"] = sha256_file(root / "dvc.lock")
    return facts


def _git(root: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):  # no git, no checkout, no commit yet: no fact
        return ""
    return done.stdout.strip()


def _libraries() -> dict[str, str]:
    found = {}
    for library in LIBRARIES:
        try:
            found[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            continue
    return found
