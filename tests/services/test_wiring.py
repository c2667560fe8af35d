from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from services.config import Settings
from services.wiring import choose, load_pinned
from tests.factories import tiny_bundle
from vitrine.home import Home
from vitrine.registry import open_registry


def test_the_only_production_is_chosen_and_a_typo_is_explained(home: Home, promoted: Callable[..., int]) -> None:
    promoted(seed=1)
    state = open_registry(home).state()

    chosen = choose(state, "")
    assert not isinstance(chosen, str)
    assert (chosen.model, chosen.production.version) == ("tiny-search", 1)
    assert choose(state, "tiny-saerch") == (
        "tiny-saerch has no production version yet; promote one: vitrine promote tiny-saerch@N"
    )


def test_a_pinned_version_has_no_index(tmp_path: Path) -> None:
    snapshot = load_pinned("tiny", 3, tiny_bundle(tmp_path / "bundle"), Settings(threads=1))

    assert (snapshot.name, snapshot.index, snapshot.collection) == ("tiny@3", None, "")
