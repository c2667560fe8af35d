"""Engines as files: where they lie, and that nothing changed is ever loaded."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from tests.factories import tiny_bundle
from vitrine import plugins
from vitrine.bundle import Bundle
from vitrine.encoder import load_encoder
from vitrine.engines import ENGINE, EngineKey, EngineRecord, all_records, built_folder, open_engine, ready, verify
from vitrine.errors import BadInput, NotFound, Tampered
from vitrine.files import sha256_file, write_json

KEY = EngineKey("a" * 64, "onnxruntime", "int8", "x86_64")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return tiny_bundle(tmp_path_factory.mktemp("v") / "bundle")


def built(engines: Path, key: EngineKey = KEY) -> Path:
    folder = engines / key.folder
    folder.mkdir(parents=True)
    (folder / "image.onnx").write_bytes(b"a graph")
    files = {"image.onnx": sha256_file(folder / "image.onnx")}
    write_json(folder / ENGINE, EngineRecord(key, files, {"min_cosine": 1.0}, {"dataset": "shop"}).as_json())
    return folder


@pytest.mark.parametrize("field", ["digest", "backend", "precision", "target"])
def test_other_content_or_another_target_is_another_folder(field: str) -> None:
    other = {"digest": "b" * 64, "backend": "tensorrt", "precision": "fp16", "target": "sm90 tensorrt 11.4"}[field]

    assert dataclasses.replace(KEY, **{field: other}).folder != KEY.folder


def test_a_sound_folder_is_found(tmp_path: Path) -> None:
    folder = built(tmp_path)

    assert built_folder(tmp_path, KEY) == folder
    assert verify(tmp_path / KEY.folder, KEY).calibration == {"dataset": "shop"}


def test_what_was_not_built_is_told_with_the_command_that_builds_it(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"vitrine engine build NAME@N --backend onnxruntime --precision int8"):
        built_folder(tmp_path, KEY)


def test_a_changed_file_is_not_loaded(tmp_path: Path) -> None:
    (built(tmp_path) / "image.onnx").write_bytes(b"another graph")

    with pytest.raises(Tampered, match=r"image\.onnx .* changed since the engine was built .* --again"):
        built_folder(tmp_path, KEY)


def test_a_missing_file_is_noticed(tmp_path: Path) -> None:
    (built(tmp_path) / "image.onnx").unlink()

    with pytest.raises(Tampered, match=r"image\.onnx"):
        built_folder(tmp_path, KEY)


def test_a_file_too_many_is_noticed(tmp_path: Path) -> None:
    (built(tmp_path) / "more.onnx").write_bytes(b"")

    with pytest.raises(Tampered, match=r"more\.onnx"):
        built_folder(tmp_path, KEY)


def test_another_versions_engine_in_its_place_is_not_loaded(tmp_path: Path) -> None:
    other = dataclasses.replace(KEY, digest="a" * 16 + "b" * 48)  # folders carry sixteen digits
    built(tmp_path, other)

    with pytest.raises(Tampered, match="was built for something else"):
        built_folder(tmp_path, KEY)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"schema": 9}', '{"schema": 1, "key": {}}'])
def test_an_unreadable_record_is_told_and_left_out_of_lists(tmp_path: Path, text: str) -> None:
    folder = built(tmp_path)
    (folder / ENGINE).write_text(text)

    with pytest.raises(Tampered, match=r"engine\.json cannot be read"):
        built_folder(tmp_path, KEY)
    assert list(all_records(tmp_path)) == []


def test_half_written_folders_are_no_engines(tmp_path: Path) -> None:
    folder = built(tmp_path)
    folder.rename(folder.with_name(f".{folder.name}.1234"))

    assert list(all_records(tmp_path)) == []


def test_a_precision_that_the_backend_does_not_run_is_refused(bundle: Bundle) -> None:
    with pytest.raises(BadInput, match="onnxruntime does not run 'fp16'; it runs: fp32, int8") as refused:
        load_encoder(bundle, precision="fp16")
    assert refused.value.field == "precision"


def test_an_engine_that_needs_building_is_not_loaded_without_a_folder_of_engines(bundle: Bundle) -> None:
    with pytest.raises(NotFound, match="no onnxruntime int8 engine of version"):
        load_encoder(bundle, precision="int8")


def test_the_default_precision_is_the_backends_first(bundle: Bundle) -> None:
    assert open_engine(bundle, backend_name="onnxruntime", threads=1).precision == "fp32"


def test_ready_are_the_precisions_that_need_no_building_and_those_that_are_built(
    bundle: Bundle, tmp_path: Path
) -> None:
    before = ready(bundle, tmp_path)
    target = plugins.load("backends", "onnxruntime").target()
    built(tmp_path, EngineKey(bundle.manifest.digest, "onnxruntime", "int8", target))

    assert ("onnxruntime", "fp32") in before
    assert set(ready(bundle, tmp_path)) - set(before) == {("onnxruntime", "int8")}


def test_the_record_is_plain_json(tmp_path: Path) -> None:
    record = json.loads((built(tmp_path) / ENGINE).read_text())

    assert record["key"] == dataclasses.asdict(KEY)
