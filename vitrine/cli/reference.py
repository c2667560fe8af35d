"""Writes docs/cli.md from the commands themselves: `python -m vitrine.cli.reference > docs/cli.md`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from typer.main import get_command

from vitrine.cli import app

_HEAD = """# Commands

Written from the commands' own help texts by `make docs`.

Exit codes: 0 done, 1 our fault, 2 bad input or usage, 3 refused by a gate, 4 not found, 5 conflict, 6 unavailable.
`--json` prints one object on standard output and nothing else there; progress and errors go to standard error.

| environment | meaning | default |
|---|---|---|
| `VITRINE_HOME` | registry, artifacts, collections | `.vitrine` in the working directory |
| `VITRINE_REGISTRY_URL` | SQLAlchemy URL of the event log: `sqlite:///FILE` or `postgresql://USER@HOST/NAME` | `registry.db` in `VITRINE_HOME` |
| `VITRINE_ARTIFACTS_URL` | where files lie: a folder, or any address that fsspec knows, such as `s3://BUCKET/FOLDER` | `artifacts` in `VITRINE_HOME` |
| `VITRINE_ENGINES` | engines built for this machine | `engines` in `VITRINE_HOME` |
| `VITRINE_DATASETS` | imported datasets | `data` |
| `VITRINE_ACTOR` | who the history names | user@host |
| `VITRINE_DATA` | real photos for `make photos` and the tests that use them | `../shared/data` |
| `VITRINE_BACKEND`, `VITRINE_PRECISION`, `VITRINE_THREADS`, `VITRINE_INDEX` | engine, its threads and index of what serves: for servers, `promote`, `index sync` | `onnxruntime`, its own, 2, exact |
| `VITRINE_CA`, `VITRINE_CERT`, `VITRINE_KEY` | PEM files of commands that ask a server: who signs it, and their own certificate | none: no TLS |
| `QDRANT_URL`, `QDRANT_GRPC_PORT`, `QDRANT_API_KEY` | a Qdrant server | none: exact search; evaluations run the embedded engine |
| `VITRINE_CONFIG`, and a name for each setting | the server's settings: [serving.md](serving.md) | |
| `BENTOML_HOME` | what BentoML keeps; one for each running server | `~/bentoml` |
"""


def reference() -> str:
    """The whole page."""
    return _HEAD + "\n".join(_section(path, command) for path, command in leaves(get_command(app)))


def leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Every command that does something, as (words after `vitrine`, command)."""
    children: dict[str, Any] = getattr(command, "commands", {})
    if not children:
        yield " ".join(path), command
    for name, child in children.items():
        yield from leaves(child, (*path, name))


def _section(path: str, command: Any) -> str:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    usage = " ".join([f"vitrine {path}", *(_argument(p) for p in arguments)])
    lines = [f"\n## `{usage}`\n", " ".join((command.help or "").split()), ""]
    lines += [f"- `{_argument(p)}`: {p.help}" for p in arguments if getattr(p, "help", None)]
    lines += [f"- `{', '.join(p.opts)}`: {p.help or ''}" for p in command.params if _is_own_option(p)]
    return "\n".join(lines).rstrip() + "\n"


def _argument(parameter: Any) -> str:
    name = str(parameter.name).upper()
    return name if parameter.required else f"[{name}]"


def _is_own_option(parameter: Any) -> bool:
    return bool(parameter.param_type_name == "option" and parameter.name != "help")


if __name__ == "__main__":
    print(reference(), end="")
