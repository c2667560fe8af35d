from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from services.wiring import Settings, choose, load_pinned, read_settings
from tests.factories import tiny_bundle
from vitrine.errors import BadInput
from vitrine.home import Home
from vitrine.registry import open_registry


def test_nothing_set_means_the_defaults() -> None:
    assert read_settings({"PATH": "/bin"}) == Settings()


def test_the_environment_sets_typed_values() -> None:
    found = read_settings({"VITRINE_MODEL": "shop", "VITRINE_MAX_BATCH": "64", "VITRINE_MAX_WAIT_MS": "0.5"})

    assert found == Settings(model="shop", max_batch=64, max_wait_ms=0.5)


def test_a_container_listens_on_all_addresses_unless_told_otherwise() -> None:
    inside = {"BENTOML_CONTAINERIZED": "true"}

    assert read_settings(inside).grpc_addr == "0.0.0.0:50051"
    assert read_settings(inside | {"VITRINE_GRPC_ADDR": "127.0.0.1:1"}).grpc_addr == "127.0.0.1:1"


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("VITRINE_MAX_BATCH", "many", "VITRINE_MAX_BATCH is 'many', it must be a number"),
        ("VITRINE_QUEUE", "0", "VITRINE_QUEUE is 0, it must be 1 or more"),
        ("VITRINE_MAX_WAIT_MS", "nan", "VITRINE_MAX_WAIT_MS is nan, it must be 0 or more"),
        ("VITRINE_SERVE_BATCH", "3", "VITRINE_SERVE_BATCH is no setting of the server; known: VITRINE_MODEL"),
    ],
)
def test_a_wrong_setting_is_refused(name: str, text: str, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        read_settings({name: text})


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
