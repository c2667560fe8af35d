"""docs/operations.md, followed to the letter: its blocks in order, over a small installation with two promotions behind it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/operations.md").read_text()
BLOCKS = re.findall(r"^```sh([^\n]*)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The installation that the crash harness begins with."""
    folder = tmp_path_factory.mktemp("operations")
    made = [sys.executable, "-m", "tests.crash.lane", str(folder), "--kills", "0"]
    subprocess.run(made, cwd=ROOT, check=True, timeout=200)
    return folder / "lane-0"


def follow(folder: Path, mark: str, body: str, **environment: str) -> None:
    """Run a block as one shell script that stops at the first command that fails."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("VITRINE_", "QDRANT_"))}
    kept |= {"PATH": f"{Path(sys.executable).parent}:{kept['PATH']}", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", body],
        cwd=folder,
        env=kept | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=250,
    )
    wanted = int(mark.partition("exit=")[2] or 0) if "exit=" in mark else 0
    assert done.returncode == wanted, f"{body}\n{done.stdout}\n{done.stderr}"


def test_the_blocks_do_what_the_page_says(shop: Path) -> None:
    plain = [(mark, body) for mark, body in BLOCKS if "needs=" not in mark]
    for mark, body in plain:
        follow(shop, mark, body)

    assert len(plain) > 8
    assert (shop / "refused.html").is_file()


def test_a_version_moves_to_postgresql(shop: Path, request: pytest.FixtureRequest) -> None:
    url = request.getfixturevalue("postgres").database()
    ((mark, body),) = [(mark, body) for mark, body in BLOCKS if "needs=postgresql" in mark]

    follow(shop, mark, body, POSTGRESQL_URL=url)


@pytest.mark.skipif(not os.environ.get("QDRANT_URL"), reason="QDRANT_URL names no Qdrant server")
def test_a_collection_moves_to_a_qdrant_server(shop: Path) -> None:
    ((mark, body),) = [(mark, body) for mark, body in BLOCKS if "needs=QDRANT_URL" in mark]

    follow(shop, mark, body, QDRANT_URL=os.environ["QDRANT_URL"])
