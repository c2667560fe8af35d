"""The BentoML model store as a cache, in a store of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.factories import tiny_bundle
from vitrine.bundle import Bundle
from vitrine.errors import NotFound, Tampered


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return tiny_bundle(tmp_path / "bundle", labels=["jug", "mug"])


@pytest.fixture(autouse=True)
def own_store(tmp_path: Path) -> Iterator[None]:
    from bentoml._internal.configuration.containers import BentoMLContainer

    for part in ("models", "bentos", "tmp"):
        (tmp_path / "bentoml" / part).mkdir(parents=True)
    with BentoMLContainer.bentoml_home.patch(str(tmp_path / "bentoml")):
        BentoMLContainer.model_store.reset()
        yield
    BentoMLContainer.model_store.reset()


def test_a_version_comes_back_as_it_went_in(bundle: Bundle) -> None:
    from services import store

    pin = store.ensure("tiny", 7, bundle)

    assert pin.tag == f"tiny:v000007-{bundle.manifest.digest[:12]}"
    assert store.open_pinned(pin).manifest == bundle.manifest
    assert store.ensure("tiny", 7, bundle) == pin


def test_changed_bytes_are_never_loaded_and_are_imported_anew(bundle: Bundle) -> None:
    from services import store

    pin = store.ensure("tiny", 7, bundle)
    store.open_pinned(pin).paths["image.onnx"].write_bytes(b"other weights")

    with pytest.raises(Tampered, match="was changed after registration"):
        store.open_pinned(pin)
    store.ensure("tiny", 7, bundle)
    assert store.open_pinned(pin).manifest == bundle.manifest


def test_a_prefix_of_a_tag_is_not_taken_for_it(bundle: Bundle) -> None:
    from services import store

    store.ensure("tiny", 7, bundle)

    with pytest.raises(NotFound):
        store.open_pinned(store.Pin("tiny", 7, bundle.manifest.digest[:10]))


def test_the_pin_of_a_built_bento_is_read_from_its_yaml(tmp_path: Path) -> None:
    from services import store

    written = tmp_path / "bento.yaml"
    written.write_text("models: []\nservices:\n- name: vitrine\n  models:\n  - tag: tiny:v000007-0123456789ab\n")

    assert store.pinned_in(written) == store.Pin("tiny", 7, "0123456789ab")


def test_a_bento_without_a_version_says_what_to_do(tmp_path: Path) -> None:
    from services import store

    (tmp_path / "bento.yaml").write_text("models: []\nservices: []\n")

    with pytest.raises(NotFound, match="build the bento again where one is promoted"):
        store.pinned_in(tmp_path / "bento.yaml")
