from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.factories import photo, tiny_bundle
from vitrine.bundle import read_bundle, write_bundle
from vitrine.encoder import load_encoder
from vitrine.errors import BadInput, NotFound, Tampered


def test_a_bundle_reads_back_as_it_was_written(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "b", labels=["mug", "jug"])

    assert read_bundle(tmp_path / "b") == bundle
    assert bundle.labels() == ["mug", "jug"]


def test_the_same_content_has_the_same_digest_in_another_folder(tmp_path: Path) -> None:
    assert tiny_bundle(tmp_path / "a").manifest.digest == tiny_bundle(tmp_path / "b").manifest.digest


def test_lineage_is_no_content(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "a")
    other = write_bundle(tmp_path / "b", bundle.manifest, bundle.paths, {"seed": 99}, None)

    assert other.manifest.digest == bundle.manifest.digest
    assert (other.lineage, other.parity) == ({"seed": 99}, None)


def test_a_bundle_embeds_photos_as_unit_vectors(tmp_path: Path) -> None:
    encoder = load_encoder(tiny_bundle(tmp_path / "b", dim=6, labels=["mug", "jug"]))

    output = encoder.embed([photo(1), photo(2), photo(1)])

    assert output.vectors.shape == (3, 6)
    assert np.allclose(np.linalg.norm(output.vectors, axis=1), 1, atol=1e-6)
    assert np.array_equal(output.vectors[0], output.vectors[2])
    assert not np.allclose(output.vectors[0], output.vectors[1], atol=0.1)


@pytest.mark.parametrize("name", ["image.onnx", "labels.json"])
def test_one_flipped_bit_is_found(tmp_path: Path, name: str) -> None:
    tiny_bundle(tmp_path / "b", labels=["mug"])
    data = bytearray((tmp_path / "b" / name).read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "b" / name).write_bytes(data)

    with pytest.raises(Tampered, match=f"{name} at .* was changed after registration and is not loaded"):
        read_bundle(tmp_path / "b")


def test_a_missing_file_is_found(tmp_path: Path) -> None:
    tiny_bundle(tmp_path / "b")
    (tmp_path / "b" / "image.onnx").unlink()

    with pytest.raises(Tampered, match=r"image\.onnx of the version is missing"):
        read_bundle(tmp_path / "b")


def test_a_folder_without_a_manifest_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"it has no manifest\.json"):
        read_bundle(tmp_path)


@pytest.mark.parametrize("name", ["manifest.json", "lineage.json", "parity.json"])
@pytest.mark.parametrize("data", [b"\xff\xfe", b"{", b'{"odd": 1}'])
def test_a_broken_description_is_an_error_in_words(tmp_path: Path, name: str, data: bytes) -> None:
    tiny_bundle(tmp_path / "b")
    (tmp_path / "b" / name).write_bytes(data)
    if name == "lineage.json" and data == b'{"odd": 1}':
        assert read_bundle(tmp_path / "b").lineage == {"odd": 1}
        return

    with pytest.raises(BadInput):
        read_bundle(tmp_path / "b")


def test_a_wrong_file_does_not_replace_a_good_bundle(tmp_path: Path) -> None:
    good = tiny_bundle(tmp_path / "good")
    other = tiny_bundle(tmp_path / "other", seed=1)

    with pytest.raises(Tampered):
        write_bundle(tmp_path / "good", good.manifest, other.paths, {}, None)
    assert read_bundle(tmp_path / "good") == good


def test_a_file_that_was_not_given_is_named(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "b")

    with pytest.raises(BadInput, match=r"names 'image\.onnx', but no such file was given"):
        write_bundle(tmp_path / "c", replace(bundle.manifest, dim=3), {}, {}, None)
    assert not (tmp_path / "c").exists()
