"""What the server imports is what a bento's image installs."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
# Names that several packages share, and the one of them that is meant.
_SHARED = {"google": "googleapis-common-protos", "opentelemetry": "opentelemetry-api"}
_LOADED = """
import sys, services.bento, vitrine.backends.onnxruntime, vitrine.indexes.exact, vitrine.indexes.qdrant
print(*(module.__file__ for name, module in sys.modules.items() if name.split(".")[0] in ("services", "vitrine")))
"""


def imported(path: Path, *, later_too: bool = False) -> set[str]:
    """Top-level names that a file imports when it is loaded; with `later_too` also those that its functions import."""
    found = set()
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree) if later_too else tree.body:
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found


def declared(bentofile: str) -> set[str]:
    packages = yaml.safe_load((ROOT / bentofile).read_text())["python"]["packages"]
    return {package.split(">=")[0].lower().replace("_", "-") for package in packages}


def test_every_library_that_the_server_loads_is_declared() -> None:
    loaded = subprocess.run([sys.executable, "-c", _LOADED], cwd=ROOT, capture_output=True, text=True, check=True)
    names = {name for path in loaded.stdout.split() for name in imported(Path(path))}
    owners = packages_distributions()
    needed = {owners[name][0].lower().replace("_", "-") for name in names - _SHARED.keys() if name in owners}
    needed |= {_SHARED[name] for name in names & _SHARED.keys()}

    assert needed - declared("bentofile.yaml") - {"bentoml", "vitrine"} == set()


def test_every_library_that_a_backend_needs_is_in_the_gpu_image() -> None:
    files = [*(ROOT / "vitrine/backends").glob("*.py"), ROOT / "vitrine/mixed_precision.py"]
    names = {name for path in files for name in imported(path, later_too=True)} - sys.stdlib_module_names
    needed = {name.replace("_", "-") for name in names - {"vitrine"}}

    assert {"torch", "onnx", "ml-dtypes", "onnxruntime"} <= needed
    assert needed - declared("bentofile.gpu.yaml") == set()
