"""The notebook of the documentation runs afresh and prints what is stored in it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

FILE = Path(__file__).parents[1] / "docs/python-api.ipynb"


def printed(notebook: Any) -> list[tuple[str, str]]:
    """(source, what it printed) of every cell of code; pictures may differ in bytes from one library to another.

    What libraries say on standard error depends on what else is installed.
    """
    return [
        (cell.source, "".join(text(output) for output in cell.outputs if output.get("name") != "stderr"))
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


def text(output: Any) -> str:
    return str(output.get("text") or output.get("data", {}).get("text/plain") or output.output_type)


@pytest.fixture(scope="module")
def stored() -> Any:
    return nbformat.read(FILE, as_version=4)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_fresh_run_prints_what_is_stored(stored: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("VITRINE_HOME", "VITRINE_REGISTRY_URL", "VITRINE_DATASETS", "QDRANT_URL"):
        monkeypatch.delenv(name, raising=False)
    fresh = nbformat.from_dict(stored)

    NotebookClient(fresh, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()

    assert printed(fresh) == printed(stored)


def test_every_cell_was_run_once_in_order(stored: Any) -> None:
    counts = [cell.execution_count for cell in stored.cells if cell.cell_type == "code"]

    assert counts == list(range(1, len(counts) + 1))


def test_nothing_of_the_machine_is_stored(stored: Any) -> None:
    said = FILE.read_text()

    assert re.findall(r"""(?<=[\s"'(=])/[a-z]\w*/\w+""", said) == []  # a path from the root of a machine
    assert [word for word in ("stderr", "Traceback") if word in said] == []
    assert stored.metadata == {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }


def test_it_stays_small() -> None:
    assert FILE.stat().st_size < 300_000
