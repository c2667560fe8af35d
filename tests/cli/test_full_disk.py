"""A disk that is full in the middle of a promotion, for real."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.factories import photo, tiny_bundle
from tests.runner import run_vitrine
from vitrine.home import find_home
from vitrine.registry import open_registry


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """The disk is full once a file has so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_ends_a_build_with_one_sentence_and_the_repeated_command_finishes_it(tmp_path: Path) -> None:
    (tmp_path / "photos/mug").mkdir(parents=True)
    for number in range(40):
        (tmp_path / f"photos/mug/{number:02}.jpg").write_bytes(photo(number))
    imported = run_vitrine(tmp_path, "data", "import", "image-folder", "photos", "--name", "shop", "-o", "holdout=0")
    assert imported.code == 0, imported.err
    home = find_home({"VITRINE_HOME": str(tmp_path / ".vitrine")})
    open_registry(home).register("shop", tiny_bundle(tmp_path / "bundle", dim=2048), lineage={"dataset": "shop"})

    with files_of_at_most(300_000):
        full = run_vitrine(tmp_path, "promote", "shop@1", "--build-only")

    assert full.code == 6
    assert full.err.splitlines()[-1].endswith(
        "takes no more: File too large; what was there before is untouched; make room or make it writable, then run the "
        "command again"
    )
    assert not list((tmp_path / ".vitrine").glob("collections/*"))
    assert not list((tmp_path / ".vitrine").glob("building/*/*"))
    again = run_vitrine(tmp_path, "promote", "shop@1", "--build-only")
    assert again.code == 0, again.err
