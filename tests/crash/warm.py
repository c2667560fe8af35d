"""Processes that start in milliseconds: a warm interpreter that has imported everything forks one for each command.

What is killed is a process of its own that runs the command's real code over real files; only the seconds that Python
needs to import it are saved. The warm interpreter itself loads no model, starts no thread and opens no socket.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

_HEAVY = (
    "numpy.ma", "numpy.random", "onnxruntime", "onnxruntime.quantization", "pyarrow.parquet", "pyarrow.dataset", "pyarrow.csv",
    "sqlalchemy.dialects.sqlite", "grpc", "scipy.stats", "sklearn.linear_model", "sklearn.svm", "rich.progress", "rich.live",
    "rich.table", "pydantic.main", "pydantic.type_adapter", "typer.main", "markupsafe", "dateutil.relativedelta",
    "vitrine.cli", "vitrine.promotion", "vitrine.promotion_rollback", "vitrine.promotion_evidence", "vitrine.gate_report",
    "vitrine.index_sync", "vitrine.collection_audit", "vitrine.collection_gc", "vitrine.registry_gc", "vitrine.transfer",
    "vitrine.forgetting", "vitrine.importing", "vitrine.datasets.image_folder", "vitrine.evaluator", "vitrine.engine_build",
    "vitrine.quantize", "vitrine.backends.onnxruntime", "vitrine.indexes.exact", "vitrine.client", "tests.services.conftest",
)  # fmt: skip
_LONGEST_S = 120.0
_LOOK_S = 0.002
_ANSWER = "answer: "


@dataclass(frozen=True)
class Ended:
    """How a process ended.

    Attributes:
        code: exit code, or minus the signal.
        said: both streams.
    """

    code: int
    seconds: float
    said: str

    @property
    def killed(self) -> bool:
        """It ended by SIGKILL."""
        return self.code == -signal.SIGKILL


def import_everything() -> None:
    """Import what the commands import."""
    for name in _HEAVY:
        importlib.import_module(name)
    Image.preinit()


def warm_up() -> None:
    """Import everything, and make the commands' steps small, so that there is more between which to die."""
    import_everything()
    import vitrine.catchup
    import vitrine.compaction
    import vitrine.forgetting
    import vitrine.promotion_build

    vitrine.promotion_build._ITEMS_IN_CHUNK = 8
    vitrine.catchup._AT_A_TIME = 3
    vitrine.compaction._LEAST = 4
    vitrine.forgetting.eraser.__kwdefaults__["grace_s"] = 0.2  # no server has to see the tombstone meanwhile


def run(
    work: Callable[[], None], folder: Path, environment: Mapping[str, str], *, kill_after: float | None = None
) -> Ended:
    """Run `work` in a process of its own, in `folder`; with `kill_after` it and all it started die after so many seconds."""
    log, began = folder / "said.log", time.monotonic()
    pid = os.fork()
    if pid == 0:
        _be_child(work, folder, environment, log)
    code = _wait(pid, began + (_LONGEST_S if kill_after is None else kill_after))
    return Ended(code, time.monotonic() - began, log.read_text(errors="replace"))


def command(*arguments: str) -> Callable[[], None]:
    """`vitrine ARGUMENTS` through its real entry point."""

    def work() -> None:
        from vitrine.cli import main

        sys.argv = ["vitrine", *arguments]
        main()

    return work


def ask(question: Callable[[], list[str]], folder: Path, environment: Mapping[str, str]) -> list[str]:
    """The sentences that a question answers with, asked in a process of its own; how it failed, if it did."""
    ended = run(lambda: print(f"\n{_ANSWER}{json.dumps(question())}"), folder, environment)
    answers = [line.removeprefix(_ANSWER) for line in ended.said.splitlines() if line.startswith(_ANSWER)]
    return json.loads(answers[0]) if answers else [f"it could not be looked at: exit code {ended.code}: {ended.said}"]


def _be_child(work: Callable[[], None], folder: Path, environment: Mapping[str, str], log: Path) -> None:
    """Never returns."""
    code = 1
    try:
        os.setsid()
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for stream in (1, 2):
            os.dup2(out, stream)
        os.chdir(folder)
        os.environ.update(environment)
        work()
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _wait(pid: int, deadline: float) -> int:
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= deadline:
            _kill(pid)
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        time.sleep(_LOOK_S)


def _kill(pid: int) -> None:
    """The process with all that it started; in its first moment it leads no group yet."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        os.kill(pid, signal.SIGKILL)
