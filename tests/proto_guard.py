"""Keeps the protocol whole: what was published stays, and what is new follows the house's rules. No network.

`proto/baseline.json` is what clients in the world were generated from. Additions pass; anything that an old client would stumble
over is a sentence. JSON over HTTP shows names, so a new name breaks as much as a new number.

    python -m tests.proto_guard accept     # additions into the baseline; refuses what breaks
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet
from grpc_tools import protoc

ROOT = Path(__file__).resolve().parents[1]
BASELINE = ROOT / "proto" / "baseline.json"

Described = dict[str, dict[str, Any]]
"""`messages`, `enums` and `services`, each by full name."""

_SNAKE, _PASCAL, _UPPER = (re.compile(rule) for rule in (r"[a-z][a-z0-9]*(_[a-z0-9]+)*", r"([A-Z][a-z0-9]*)+", r"[A-Z][A-Z0-9_]*"))  # fmt: skip


def compiled(root: Path) -> FileDescriptorSet:
    """All proto files below `root`, with their comments."""
    names = sorted(str(path.relative_to(root)) for path in root.rglob("*.proto"))
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "set"
        well_known = Path(protoc.__file__).parent / "_proto"
        options = [f"-I{root}", f"-I{well_known}", "--include_source_info", f"--descriptor_set_out={out}"]
        if protoc.main(["protoc", *options, *names]) != 0:
            raise ValueError(f"{root} holds proto files that do not compile")
        return FileDescriptorSet.FromString(out.read_bytes())


# --- what was published ---


def described(files: FileDescriptorSet) -> Described:
    """Everything that goes over the wire, as JSON values."""
    found: Described = {"messages": {}, "enums": {}, "services": {}}
    for file in files.file:
        for prefix, message in _messages(file):
            found["messages"][f"{prefix}.{message.name}"] = {
                str(field.number): _field(field, message) for field in message.field
            }
        for prefix, enum in _enums(file):
            found["enums"][f"{prefix}.{enum.name}"] = {str(value.number): value.name for value in enum.value}
        for service in file.service:
            found["services"][f"{file.package}.{service.name}"] = {one.name: _method(one) for one in service.method}
    return found


def _field(field: FieldDescriptorProto, message: descriptor_pb2.DescriptorProto) -> dict[str, str]:
    kind = field.type_name.lstrip(".") or FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()
    label = FieldDescriptorProto.Label.Name(field.label).removeprefix("LABEL_").lower()
    if field.proto3_optional:
        label = "explicit"
    oneof = ""
    if field.HasField("oneof_index") and not field.proto3_optional:
        oneof = message.oneof_decl[field.oneof_index].name
    return {"name": field.name, "type": kind, "label": label, "oneof": oneof}


def _method(method: descriptor_pb2.MethodDescriptorProto) -> str:
    stream = {True: "stream ", False: ""}
    asked, answered = method.input_type.lstrip("."), method.output_type.lstrip(".")
    return f"{stream[method.client_streaming]}{asked} -> {stream[method.server_streaming]}{answered}"


def broken(before: Described, after: Described) -> list[str]:
    """What a client of `before` would stumble over at a server of `after`, in sentences."""
    told = [
        f"{kind[:-1]} {name} is gone; keep it" for kind in before for name in before[kind].keys() - after[kind].keys()
    ]
    for name, fields in before["messages"].items():
        told += _changed_fields(name, fields, after["messages"].get(name, fields))
    for name, values in before["enums"].items():
        told += _changed_values(name, values, after["enums"].get(name, values))
    for name, methods in before["services"].items():
        told += _changed_methods(name, methods, after["services"].get(name, methods))
    return sorted(told)


def _changed_fields(message: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    numbers = {field["name"]: number for number, field in after.items()}
    for number, field in before.items():
        name = field["name"]
        if numbers.get(name, number) != number:
            yield f"field {message}.{name} went from number {number} to {numbers[name]}; give it its number back"
        elif number not in after:
            yield f"field {message}.{name} = {number} is gone; keep it, and say in its comment that it is not used"
        elif after[number]["name"] != name:
            yield f"field {message} = {number} is called {after[number]['name']} and was {name}; give it its name back"
        else:
            for what in ("type", "label", "oneof"):
                if after[number][what] != field[what]:
                    yield (
                        f"the {what} of field {message}.{name} went from {field[what] or 'none'} to "
                        f"{after[number][what] or 'none'}; add another field instead"
                    )


def _changed_values(enum: str, before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[str]:
    for number, name in before.items():
        if after.get(number) != name:
            yield f"value {enum}.{name} = {number} is {after.get(number, 'gone')}; keep it"


def _changed_methods(service: str, before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[str]:
    for name, shape in before.items():
        if name not in after:
            yield f"method {service}.{name} is gone; keep it"
        elif after[name] != shape:
            yield f"method {service}.{name} was ({shape}) and is ({after[name]}); add another method instead"


# --- the house's rules ---


def lint(files: FileDescriptorSet) -> list[str]:
    """Where the files do not follow the rules, in sentences."""
    told: list[str] = []
    for file in files.file:
        told += _lint_file(file)
        for _, message in _messages(file):
            told += _names(message.name, _PASCAL, f"message {message.name}", "PascalCase")
            for field in message.field:
                told += _names(field.name, _SNAKE, f"field {message.name}.{field.name}", "snake_case")
        for _, enum in _enums(file):
            told += _lint_enum(enum)
        for service in file.service:
            told += _lint_service(service)
        told += _uncommented(file)
    return told


def _lint_file(file: FileDescriptorProto) -> Iterator[str]:
    if not re.fullmatch(r"[a-z_]+(\.[a-z_]+)*\.v\d+", file.package):
        yield f"{file.name}: the package {file.package!r} must end with a version, such as vitrine.v1"
    if Path(file.name).parent.as_posix() != file.package.replace(".", "/"):
        yield f"{file.name} holds the package {file.package}; it belongs in {file.package.replace('.', '/')}/"
    if file.syntax != "proto3":
        yield f"{file.name} must be proto3"


def _lint_enum(enum: descriptor_pb2.EnumDescriptorProto) -> Iterator[str]:
    first = enum.value[0]
    if first.number != 0 or not first.name.endswith("_UNSPECIFIED"):
        yield f"enum {enum.name} must begin with …_UNSPECIFIED = 0: it is what an absent value reads as"
    for value in enum.value:
        yield from _names(value.name, _UPPER, f"value {enum.name}.{value.name}", "UPPER_CASE")


def _lint_service(service: descriptor_pb2.ServiceDescriptorProto) -> Iterator[str]:
    for method in service.method:
        yield from _names(method.name, _PASCAL, f"method {service.name}.{method.name}", "PascalCase")
        if not method.input_type.endswith(f".{method.name}Request"):
            yield f"method {service.name}.{method.name} must take a {method.name}Request of its own, so that it can grow"


def _names(name: str, rule: re.Pattern[str], what: str, wanted: str) -> list[str]:
    return [] if rule.fullmatch(name) else [f"{what} must be {wanted}"]


def _uncommented(file: FileDescriptorProto) -> Iterator[str]:
    """Services, methods, messages and enums without a comment before them."""
    commented = {tuple(place.path) for place in file.source_code_info.location if place.leading_comments.strip()}
    for path, name in _commentable(file):
        if path not in commented:
            yield f"{file.name}: {name} has no comment; say above it what it is"


def _commentable(file: FileDescriptorProto) -> Iterator[tuple[tuple[int, ...], str]]:
    """Paths as `SourceCodeInfo` writes them: 4 messages, 5 enums, 6 services; in a message 3 messages, 4 enums."""

    def inside(message: descriptor_pb2.DescriptorProto, path: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], str]]:
        if not message.options.map_entry:
            yield path, f"message {message.name}"
        for place, enum in enumerate(message.enum_type):
            yield (*path, 4, place), f"enum {enum.name}"
        for place, nested in enumerate(message.nested_type):
            yield from inside(nested, (*path, 3, place))

    for place, message in enumerate(file.message_type):
        yield from inside(message, (4, place))
    for place, enum in enumerate(file.enum_type):
        yield (5, place), f"enum {enum.name}"
    for place, service in enumerate(file.service):
        yield (6, place), f"service {service.name}"
        for number, method in enumerate(service.method):
            yield (6, place, 2, number), f"method {service.name}.{method.name}"


# --- walking ---


def _messages(file: FileDescriptorProto) -> Iterator[tuple[str, descriptor_pb2.DescriptorProto]]:
    """Every message, the entries of maps too, with the name of what it is in."""

    def inside(prefix: str, messages: Any) -> Iterator[tuple[str, descriptor_pb2.DescriptorProto]]:
        for message in messages:
            yield prefix, message
            yield from inside(f"{prefix}.{message.name}", message.nested_type)

    return inside(file.package, file.message_type)


def _enums(file: FileDescriptorProto) -> Iterator[tuple[str, descriptor_pb2.EnumDescriptorProto]]:
    yield from ((file.package, enum) for enum in file.enum_type)
    for prefix, message in _messages(file):
        yield from ((f"{prefix}.{message.name}", enum) for enum in message.enum_type)


def accept(say: Callable[[str], Any] = print) -> int:
    """Take additions over into the baseline; change nothing if something broke."""
    now = described(compiled(ROOT / "proto"))
    told = broken(json.loads(BASELINE.read_text()), now) if BASELINE.is_file() else []
    for sentence in told:
        say(sentence)
    if not told:
        BASELINE.write_text(json.dumps(now, indent=1, sort_keys=True) + "\n")
    return 1 if told else 0


if __name__ == "__main__":
    if sys.argv[1:] != ["accept"]:
        raise SystemExit("usage: python -m tests.proto_guard accept")
    raise SystemExit(accept())
