"""A version with a text graph in the registry: it comes back whole, and its tokenizer is guarded like its weights."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tests.factories import tiny_bundle
from vitrine.encoder import load_encoder
from vitrine.errors import Tampered
from vitrine.home import find_home
from vitrine.registry import open_registry

TITLES = ["Blue mug", "jug", ""]


@pytest.fixture
def registered(tmp_path):
    registry = open_registry(find_home({"VITRINE_HOME": str(tmp_path / "home")}))
    bundle = tiny_bundle(tmp_path / "bundle", texts=True)
    registry.register("shop", bundle)
    return registry, bundle


def test_a_registered_version_reads_titles_as_its_bundle_does(registered):
    registry, bundle = registered
    ours, theirs = (load_encoder(one, threads=1).embed_texts(TITLES) for one in (registry.open("shop@1"), bundle))
    np.testing.assert_array_equal(ours, theirs)
    assert registry.verify() == []


def test_a_changed_tokenizer_is_never_opened(registered):
    registry, bundle = registered
    sha = bundle.manifest.tokenizer.file.sha256
    path = registry.artifacts.path(sha)
    path.chmod(0o644)
    path.write_bytes(path.read_bytes().replace(b'"a"', b'"b"', 1))
    with pytest.raises(Tampered, match="is not loaded"):
        registry.open("shop@1")


def test_the_tokenizers_digest_is_part_of_the_versions(registered):
    manifest = registered[1].manifest
    file = dataclasses.replace(manifest.tokenizer.file, sha256="0" * 64)
    changed = dataclasses.replace(manifest, tokenizer=dataclasses.replace(manifest.tokenizer, file=file))
    assert changed.digest != manifest.digest
