"""Digests and writes that are whole or absent."""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vitrine.errors import BadInput, NotFound

JUST_MADE_S = 2.0
"""Seconds after which a draft that nobody has locked counts as abandoned."""
_HERE, _EXCHANGE = -100, 2  # AT_FDCWD, RENAME_EXCHANGE


def sha256_bytes(data: bytes) -> str:
    """sha256 in hex."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """sha256 of a file's content, in hex, read in pieces."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_atomic(path: Path, data: bytes | str) -> None:
    """Write through a temporary file and a rename: readers see the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        temporary.write_bytes(data.encode() if isinstance(data, str) else data)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write sorted, indented JSON atomically; the same value is the same file."""
    write_atomic(path, json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def read_json(path: Path, what: str) -> Any:
    """Read JSON.

    Raises:
        NotFound: no such file; `what` says in the message what was looked for.
        BadInput: not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise NotFound(f"no {what} at {path}") from error
    except ValueError as error:
        raise BadInput(f"{path} is not valid JSON: {error}") from error


def read_utf8(path: Path) -> str:
    """A text file without its byte order mark.

    Raises:
        BadInput: its bytes are no UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is no UTF-8 text: {error}; save it as UTF-8 or download it again") from error


@contextmanager
def replacing_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder beside `target` that takes its place if the block succeeds.

    A process that is killed leaves such a folder; the next one that replaces the same target removes it.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    temporary.mkdir()
    held = _hold(temporary)
    try:
        for draft in abandoned_drafts(target.parent, target.name):
            shutil.rmtree(draft, ignore_errors=True)
        yield temporary
        if target.exists():
            _exchange(temporary, target)
        else:
            temporary.rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        os.close(held)


def _hold(folder: Path) -> int:
    """Hold the lock of a folder, as long as this descriptor is open; dead processes hold none."""
    descriptor = os.open(folder, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return descriptor


def abandoned_drafts(folder: Path, name: str | None = None) -> Iterator[Path]:
    """Drafts in `folder`, of one folder or of all, that nobody works on.

    Their processes were killed; or they are what was just replaced and is being removed.
    """
    form = re.compile(rf"\.{re.escape(name) if name else '.+'}\.(old-)?[0-9a-f]{{8}}")
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if form.fullmatch(path.name) and path.is_dir() and _is_abandoned(path):
            yield path


def _is_abandoned(draft: Path) -> bool:
    try:
        if time.time() - draft.stat().st_ctime <= JUST_MADE_S:  # it may not be locked yet
            return False
        os.close(_hold(draft))
    except OSError:  # somebody works on it, or it is gone
        return False
    return True


def _exchange(new: Path, old: Path) -> None:
    """Swap two folders in one step where the system can (Linux), so that a kill never leaves none."""
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 and renameat2(_HERE, os.fsencode(new), _HERE, os.fsencode(old), _EXCHANGE) == 0:
        return
    aside = old.with_name(f".{old.name}.old-{secrets.token_hex(4)}")
    old.rename(aside)
    new.rename(old)
    shutil.rmtree(aside)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of that file; waits while another process of this machine has it, dead ones have none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
