from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.factories import tiny_bundle, tiny_graph
from tests.runner import Ran, run_vitrine


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A folder with two versions of `shop`; the second has a classifier."""
    tiny_bundle(tmp_path / "one")
    tiny_bundle(tmp_path / "two", labels=["mug", "jug"], seed=1)
    for folder in ("one", "two"):
        assert models(tmp_path, "register", folder, "--name", "shop", "--why", f"from [{folder}]").code == 0
    return tmp_path


def models(root: Path, *arguments: str) -> Ran:
    return run_vitrine(root, "models", *arguments)


def as_json(root: Path, *arguments: str) -> Any:
    ran = models(root, *arguments, "--json")
    assert ran.code == 0, ran.err
    return json.loads(ran.out)


def test_an_empty_registry_says_what_comes_next(tmp_path: Path) -> None:
    assert "vitrine models register PATH --name NAME" in models(tmp_path, "ls").out


def test_ls_lists_versions_with_aliases_and_origin(shop: Path) -> None:
    models(shop, "alias", "shop", "stable", "2")

    first, second = as_json(shop, "ls")["models"]
    assert (first["name"], first["version"], first["aliases"], first["mmp@5"]) == ("shop", 1, [], None)
    assert (second["aliases"], second["strategy"], second["backbone"]) == (["stable"], "tiny", "mean-pool")
    assert "stable" in models(shop, "ls").out


def test_ls_of_a_strategy_lists_its_versions_alone(shop: Path) -> None:
    assert len(as_json(shop, "ls", "--strategy", "tiny")["models"]) == 2
    assert as_json(shop, "ls", "--strategy", "cross") == {"models": []}


def test_ls_of_a_strategy_that_no_version_has_says_so(shop: Path) -> None:
    ran = models(shop, "ls", "--strategy", "cross")

    assert ran.code == 0
    assert ran.out == "No version has the strategy cross. All there are: vitrine models ls\n"


def test_register_says_which_version_and_what_comes_next(shop: Path) -> None:
    again = models(shop, "register", "one", "--name", "shop")

    assert "This content is shop@1 already; nothing was changed." in again.out
    assert "Next: vitrine evaluate shop@1 --dataset NAME" in again.out


def test_show_names_content_origin_and_parity(shop: Path) -> None:
    found = as_json(shop, "show", "shop@2")

    assert (found["ref"], found["dim"], found["licences"]["weights"]) == ("shop@2", 8, "Apache-2.0")
    assert found["classifier"] == {"temperature": 1.0, "abstain_below": 0.1}
    assert found["lineage"]["seed"] == 1
    assert found["lineage"]["libraries"]["onnx"]
    assert "parity.min_cosine" in models(shop, "show", "shop@2").out


def test_history_is_one_sentence_an_event(shop: Path) -> None:
    lines = models(shop, "history", "shop").out.splitlines()

    assert len(lines) == 2
    assert "registered shop@2" in lines[1]
    assert lines[1].endswith("-- from [two]")


def test_verify_finds_a_changed_file_and_registering_repairs_it(shop: Path) -> None:
    assert models(shop, "verify").code == 0
    sha = as_json(shop, "show", "shop@1")["files"][0]["sha256"]
    path = shop / ".vitrine/artifacts" / sha[:2] / sha
    path.chmod(0o644)
    path.write_bytes(b"other")

    ran = models(shop, "verify")
    assert (ran.code, ran.out.startswith("shop@1: image.onnx: artifact")) == (1, True)
    assert models(shop, "verify", "shop@2").code == 0
    models(shop, "register", "one", "--name", "shop")
    assert as_json(shop, "verify")["problems"] == []


def test_a_retired_version_is_marked(shop: Path) -> None:
    assert "Retired shop@1." in models(shop, "retire", "shop@1", "--why", "weak on bags").out

    assert as_json(shop, "ls")["models"][0]["retired"]
    assert "(retired)" in models(shop, "ls").out


def test_an_onnx_file_becomes_a_version(tmp_path: Path) -> None:
    model = tiny_graph(dim=8, classes=0, seed=4, size=32)
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())

    ran = models(tmp_path, "register", "model.onnx", "--name", "own", "--licence", "MIT")

    assert ran.code == 0, ran.err
    assert as_json(tmp_path, "show", "own")["licences"] == {"weights": "MIT", "data": "unknown"}


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("show", "nope"), 4, "there is no model 'nope'; known models: shop"),
        (("show", "shop@7"), 4, "shop has no version 7, only: 1, 2"),
        (("show", "Shop"), 2, "no model name"),
        (("alias", "shop", "production", "1"), 2, "see: vitrine promote, vitrine rollback"),
        (("register", "none", "--name", "shop"), 4, "no file or folder none"),
        (("register", ".", "--name", "shop"), 2, "a folder without manifest.json"),
        (("register", "one", "--name", "shop", "--labels", "x.json"), 2, "a bundle says these itself: labels"),
        (("register", "one/image.onnx", "--name", "shop", "--family", "timm"), 2, "image.onnx has no use for family"),
        (("register", "one", "--name", "Shop!"), 2, "'Shop!' is no model name"),
        (("register", "two", "--name", "shop", "--version", "1"), 5, "registered as shop@2 already"),
    ],
)
def test_a_mistake_is_one_sentence_and_its_exit_code(
    shop: Path, arguments: tuple[str, ...], code: int, message: str
) -> None:
    ran = models(shop, *arguments)

    assert ran.code == code
    assert message in ran.err
    assert len(ran.err.strip().splitlines()) == 1


def test_sync_without_outputs_says_so_and_what_comes_next(shop: Path) -> None:
    assert as_json(shop, "sync") == {"present": 0, "recorded": [], "registered": [], "skipped": []}
    assert "Next: vitrine models ls" in models(shop, "sync").out


def test_json_is_the_only_thing_on_standard_output(shop: Path) -> None:
    for arguments in (("ls",), ("show", "shop"), ("history", "shop"), ("verify",), ("alias", "shop", "x", "1")):
        out = models(shop, *arguments, "--json").out
        assert out.count("\n") == 1, arguments
        assert json.loads(out) is not None
