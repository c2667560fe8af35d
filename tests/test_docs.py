"""The documents say what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.main import get_command

from vitrine.cli import app
from vitrine.cli.reference import leaves, reference
from vitrine.metrics import METRICS

ROOT = Path(__file__).parent.parent
COMMANDS = dict(leaves(get_command(app)))


def test_every_metric_is_defined_in_the_docs() -> None:
    text = (ROOT / "docs/metrics.md").read_text()

    assert [name for name, metric in METRICS.items() if f"| `{name}` | {metric.definition} |" not in text] == []


def test_every_command_has_a_help_text() -> None:
    assert [path for path, command in COMMANDS.items() if not command.help] == []


def test_no_help_text_has_brackets_that_the_terminal_would_swallow() -> None:
    texts = {
        path: [command.help or "", *(getattr(p, "help", None) or "" for p in command.params)]
        for path, command in COMMANDS.items()
    }

    assert [(path, text) for path, many in texts.items() for text in many if re.search(r"\[[a-z@/#]", text)] == []


def test_every_variable_of_the_environment_is_in_the_docs() -> None:
    sources = [*(ROOT / "vitrine").rglob("*.py"), *(ROOT / "services").rglob("*.py")]
    named = {name for path in sources for name in re.findall(r'"((?:VITRINE|QDRANT)_[A-Z_]+)"', path.read_text())}
    pages = (ROOT / "docs/cli.md").read_text() + (ROOT / "docs/serving.md").read_text()

    assert {name for name in named if f"`{name}`" not in pages} == {
        "VITRINE_CRASH_AT",  # of the crash tests alone: docs/architecture.md
        "VITRINE_SERVE_",  # no name of ours: refused
    }


def test_the_command_reference_is_what_the_commands_say() -> None:
    assert (ROOT / "docs/cli.md").read_text() == reference(), "run: make docs"


@pytest.mark.parametrize("document", ["README.md", *(f"docs/{p.name}" for p in sorted((ROOT / "docs").glob("*.md")))])
def test_commands_in_the_documents_exist(document: str) -> None:
    known, first_words = set(COMMANDS), {path.split()[0] for path in COMMANDS}
    used = re.findall(r"^\s*vitrine ([a-z-]+(?: [a-z-]+)?)", (ROOT / document).read_text(), re.MULTILINE)

    unknown = [
        u for u in used if u not in known and u.split()[0] not in known | (first_words - {"data", "models", "pipeline"})
    ]
    assert unknown == []


@pytest.mark.parametrize("document", ["README.md", *(f"docs/{p.name}" for p in sorted((ROOT / "docs").glob("*.md")))])
def test_links_between_documents_lead_somewhere(document: str) -> None:
    text = (ROOT / document).read_text()
    targets = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]

    assert [link for link in targets if not ((ROOT / document).parent / link).exists()] == []


FOLDERS = ("vitrine", "services", "training", "benchmarks")
MODULES = {
    path.stem
    for folder in FOLDERS
    for path in (ROOT / folder).rglob("*.py")
    if path.parent.name != "v1" and path.name != "__init__.py"
}


def modules_of_the_architecture() -> set[str]:
    """Names in code quotes of the section on modules that could be modules."""
    section = (ROOT / "docs/architecture.md").read_text().split("## Modules\n")[1].split("\n## ")[0]
    return set(re.findall(r"`([a-z_][a-z_0-9]*)`", section))


def test_every_module_has_its_words_in_the_architecture() -> None:
    assert MODULES - modules_of_the_architecture() == set()


def test_the_architecture_names_no_module_that_is_gone() -> None:
    packages = {path.parent.name for folder in FOLDERS for path in (ROOT / folder).rglob("__init__.py")}

    assert modules_of_the_architecture() - MODULES - packages == set()
