"""The protos: their stubs are current, nothing published is broken, the rules are kept."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from tests import proto_guard
from tests.proto_guard import BASELINE, broken, compiled, described, lint

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def regenerated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("stubs")
    protos = [str(path.relative_to(ROOT)) for path in sorted((ROOT / "proto/vitrine/v1").glob("*.proto"))]
    plugin = f"--plugin=protoc-gen-mypy={Path(sys.executable).parent / 'protoc-gen-mypy'}"
    outs = [f"--{kind}_out={out}" for kind in ("python", "grpc_python", "mypy")]
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I", "proto", plugin, *outs, *protos]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=60)
    return out / "vitrine/v1"


def test_the_committed_stubs_are_what_the_protos_generate(regenerated: Path) -> None:
    fresh = {path.name: path.read_text() for path in regenerated.iterdir()}
    committed = {path.name: path.read_text() for path in (ROOT / "vitrine/v1").glob("*_pb2*")}

    assert sorted(fresh) == sorted(committed)
    assert [name for name in fresh if fresh[name] != committed[name]] == [], "run: make proto"


# --- what was published stays ---

SMALL = """
syntax = "proto3";
package shop.v1;
// A service.
service Shop {
  // A method.
  rpc Ask(AskRequest) returns (AskRequest);
}
// A message.
message AskRequest {
  string title = 1;
  repeated double prices = 2;
  oneof source {
    bytes data = 3;
    string url = 4;
  }
  map<string, double> numbers = 5;
  // An enum.
  enum Kind {
    KIND_UNSPECIFIED = 0;
    MUG = 1;
  }
  Kind kind = 6;
  optional double price = 7;
}
"""


def compiled_text(folder: Path, text: str) -> FileDescriptorSet:
    (folder / "shop/v1").mkdir(parents=True, exist_ok=True)
    (folder / "shop/v1/shop.proto").write_text(text)
    return compiled(folder)


def test_nothing_that_was_published_is_broken() -> None:
    assert broken(json.loads(BASELINE.read_text()), described(compiled(ROOT / "proto"))) == []


def test_what_is_new_is_in_the_baseline_so_that_it_stays_from_now_on() -> None:
    now = described(compiled(ROOT / "proto"))

    assert json.loads(BASELINE.read_text()) == now, "new in the protos; run: python -m tests.proto_guard accept"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("string title = 1;", "", "field shop.v1.AskRequest.title = 1 is gone"),
        ("string title = 1;", "string title = 8;", "field shop.v1.AskRequest.title went from number 1 to 8"),
        ("string title = 1;", "string name = 1;", "field shop.v1.AskRequest = 1 is called name and was title"),
        ("string title = 1;", "bytes title = 1;", "the type of field shop.v1.AskRequest.title went from string to bytes"),
        ("string title = 1;", "repeated string title = 1;", "the label of field shop.v1.AskRequest.title went from opt"),
        ("optional double price", "double price", "the label of field shop.v1.AskRequest.price went from explicit to"),
        ("    string url = 4;\n  }", "  }\n  string url = 4;", "the oneof of field shop.v1.AskRequest.url went from source"),
        ("map<string, double>", "map<string, string>", "the type of field shop.v1.AskRequest.NumbersEntry.value went from double"),
        ("    MUG = 1;\n", "", "value shop.v1.AskRequest.Kind.MUG = 1 is gone"),
        ("    MUG = 1;\n", "    MUG = 2;\n", "value shop.v1.AskRequest.Kind.MUG = 1 is gone"),
        ("    MUG = 1;\n", "    CUP = 1;\n", "value shop.v1.AskRequest.Kind.MUG = 1 is CUP"),
        ("rpc Ask(", "rpc Beg(", "method shop.v1.Shop.Ask is gone"),
        ("rpc Ask(", "rpc Ask(stream ", "method shop.v1.Shop.Ask was (shop.v1.AskRequest -> shop.v1.AskRequest) and is"),
        ("service Shop", "service Store", "service shop.v1.Shop is gone"),
        ("package shop.v1;", "package store.v1;", "message shop.v1.AskRequest is gone"),
    ],
)  # fmt: skip
def test_what_an_old_client_would_stumble_over_is_a_sentence(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert SMALL.count(old) == 1
    before = described(compiled_text(tmp_path, SMALL))
    after = described(compiled_text(tmp_path, SMALL.replace(old, new)))

    assert any(sentence.startswith(said) for sentence in broken(before, after)), broken(before, after)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("string title = 1;", "string title = 1;\n  string name = 8;"),
        ("    MUG = 1;", "    MUG = 1;\n    CUP = 2;"),
        ("    string url = 4;", "    string url = 4;\n    string path = 8;"),
        ("// A message.", "// Another.\nmessage BegRequest {}\n// A message."),
        ("// A method.", "// Another.\n  rpc Beg(AskRequest) returns (AskRequest);\n  // A method."),
        ("// A message.", "// A better comment."),
    ],
)
def test_additions_break_nothing(tmp_path: Path, old: str, new: str) -> None:
    before = described(compiled_text(tmp_path, SMALL))

    assert broken(before, described(compiled_text(tmp_path, SMALL.replace(old, new)))) == []


def test_a_break_is_not_accepted_into_the_baseline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    baseline = tmp_path / "baseline.json"
    held = json.loads(BASELINE.read_text())
    held["messages"]["vitrine.v1.Item"]["99"] = {"name": "sound", "type": "bytes", "label": "optional", "oneof": ""}
    baseline.write_text(json.dumps(held))
    monkeypatch.setattr(proto_guard, "BASELINE", baseline)
    told: list[str] = []

    assert proto_guard.accept(told.append) == 1
    assert told == ["field vitrine.v1.Item.sound = 99 is gone; keep it, and say in its comment that it is not used"]
    assert json.loads(baseline.read_text()) == held


# --- the house's rules ---


def test_the_protos_follow_the_rules() -> None:
    assert lint(compiled(ROOT / "proto")) == []


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("  // A method.\n", "", "shop/v1/shop.proto: method Shop.Ask has no comment; say above it what it is"),
        ("// A message.\n", "", "shop/v1/shop.proto: message AskRequest has no comment"),
        ("// A service.\n", "", "shop/v1/shop.proto: service Shop has no comment"),
        ("  // An enum.\n", "", "shop/v1/shop.proto: enum Kind has no comment"),
        ("string title", "string Title", "field AskRequest.Title must be snake_case"),
        ("KIND_UNSPECIFIED", "POT", "enum Kind must begin with …_UNSPECIFIED = 0"),
        ("MUG", "Mug", "value Kind.Mug must be UPPER_CASE"),
        ("service Shop {", "service Shop {\n  // Another.\n  rpc Beg(AskRequest) returns (AskRequest);",
         "method Shop.Beg must take a BegRequest of its own"),
        ("package shop.v1;", "package shop;", "shop/v1/shop.proto: the package 'shop' must end with a version"),
        ("package shop.v1;", "package shop.v2;", "shop/v1/shop.proto holds the package shop.v2; it belongs in shop/v2/"),
        ("message AskRequest", "message ask_request", "message ask_request must be PascalCase"),
    ],
)  # fmt: skip
def test_what_breaks_a_rule_is_named(tmp_path: Path, old: str, new: str, said: str) -> None:
    text = SMALL.replace(old, new) if "ask_request" not in new else SMALL.replace("AskRequest", "ask_request")

    assert any(sentence.startswith(said) for sentence in lint(compiled_text(tmp_path, text)))


def test_a_file_that_follows_the_rules_has_nothing_to_tell(tmp_path: Path) -> None:
    assert lint(compiled_text(tmp_path, SMALL)) == []


def test_a_proto_that_does_not_compile_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds proto files that do not compile"):
        compiled_text(tmp_path, "syntax = 3;")
