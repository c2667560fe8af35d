"""docs/first-hour.md, followed to the letter: its commands in order, in a new checkout, on a small shop's export."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.small_shop import write_shop

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/first-hour.md"

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(1200)]


@dataclass(frozen=True)
class Block:
    """A fenced block: how it is marked, its lines, and what it is to print where that is held to."""

    mark: str
    lines: tuple[str, ...]
    printed: tuple[str, ...]

    @property
    def code(self) -> int:
        """The exit code of its last command."""
        found = re.search(r"exit=(\d+)", self.mark)
        return int(found.group(1)) if found else 0


def blocks(page: str) -> list[Block]:
    """The blocks marked `sh`, each with the `text checked` block that comes before the next one."""
    found: list[Block] = []
    for mark, body in re.findall(r"^```(\w[^\n]*)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL):
        lines = tuple(body.splitlines())
        if mark.split()[0] == "sh":
            found.append(Block(mark, lines, ()))
        elif mark == "text checked":
            found[-1] = Block(found[-1].mark, found[-1].lines, lines)
    return found


BLOCKS = blocks(PAGE.read_text())


class Shell:
    """A user's terminal in the checkout; servers get free ports, and the commands that call them their address."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.http, self.grpc = free_port(), free_port()
        self.servers: list[subprocess.Popen[bytes]] = []
        kept = {
            key: value for key, value in os.environ.items() if not key.startswith(("VITRINE_", "QDRANT_", "BENTOML_"))
        }
        self.environment = kept | {
            "PATH": f"{Path(sys.executable).parent}:{kept['PATH']}",
            "PYTHONPATH": str(folder),
            "BENTOML_HOME": str(folder.parent / "bentoml"),
            "BENTOML_DO_NOT_TRACK": "True",
            "DVC_NO_ANALYTICS": "true",
            "COLUMNS": "200",
        }

    def run(self, block: Block) -> str:
        """Run the lines, which all succeed but the last one, which ends as the block says; what they print."""
        if "background" in block.mark:
            return self.serve(*block.lines)
        said = ""
        for number, line in enumerate(block.lines, start=1):
            done = self._call(self.at_own_ports(line))
            said += done.stdout
            assert done.returncode == (block.code if number == len(block.lines) else 0), (
                f"{line}\n{done.stdout[-4000:]}"
            )
        return said

    def at_own_ports(self, line: str) -> str:
        """The line itself, but for the addresses that it takes by default."""
        if line.startswith(("vitrine search", "vitrine classify", "vitrine embed")):
            return f"{line} --server 127.0.0.1:{self.grpc}"
        return line

    def serve(self, line: str) -> str:
        """Start the server and wait until it is ready."""
        command = f"exec {line} --port {self.http} --grpc-port {self.grpc}"
        with (self.folder / "serve.log").open("wb") as log:
            server = subprocess.Popen(
                command,
                shell=True,
                cwd=self.folder,
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.servers.append(server)
        deadline = time.monotonic() + 90
        while not ready(self.http):
            assert server.poll() is None, (self.folder / "serve.log").read_text()
            assert time.monotonic() < deadline, (self.folder / "serve.log").read_text()
            time.sleep(0.2)
        return ""

    def close(self) -> None:
        """Stop what is still running."""
        for server in self.servers:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait(30)

    def _call(self, line: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            line,
            shell=True,
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def checkout(folder: Path) -> Path:
    """What is tracked here or about to be, as a repository of its own, with the shop's export in it."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    (folder / "dvc.lock").unlink(missing_ok=True)
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    write_shop(folder / "export")
    return folder


def plain(line: str) -> str:
    return " ".join(line.replace("\ufeff", "").split())


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[Block, str]]:
    """Every block with what it printed."""
    shell = Shell(checkout(tmp_path_factory.mktemp("first-hour") / "checkout"))
    said: dict[Block, str] = {}
    try:
        for block in BLOCKS:
            said[block] = shell.run(block)
        yield said
    finally:
        shell.close()


def of(followed: dict[Block, str], command: str, place: int = 0) -> str:
    """What the block with a line that begins so printed."""
    found = [said for block, said in followed.items() if any(line.startswith(command) for line in block.lines)]
    return found[place]


def test_every_command_ends_as_the_page_says(followed: dict[Block, str]) -> None:
    assert len(followed) == len(BLOCKS) > 15


def test_the_page_shows_what_the_commands_print(followed: dict[Block, str]) -> None:
    missing = {
        line: said
        for block, said in followed.items()
        for line in block.printed
        if plain(line) not in plain(said.replace("\n", " "))
    }

    assert missing == {}


def test_the_refusal_names_its_gate_and_the_interval(followed: dict[Block, str]) -> None:
    (said,) = [said for block, said in followed.items() if block.code == 3]

    assert "shop-search@1 is not promoted: [quality against incumbent] mmp@5 on shop" in said
    reason = " ".join(said.split())  # the table wraps it
    assert "; the lower end" in reason
    assert "must be at least -" in reason


def test_the_server_follows_the_second_promotion(followed: dict[Block, str]) -> None:
    assert of(followed, "vitrine search", 0).startswith("shop-search@1")
    assert "answered by shop-search@2" in of(followed, "vitrine search", 1)


def test_the_history_ends_with_the_rollback_and_its_reason(followed: dict[Block, str]) -> None:
    assert of(followed, "vitrine rollback").rstrip().endswith("from version 2 to 1 -- to see how it is done")
