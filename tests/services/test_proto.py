from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

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
