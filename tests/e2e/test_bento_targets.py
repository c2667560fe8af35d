"""Both targets by `bentoml build -f`: what their images would be made of, and that serving needs no network."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.e2e.test_serving import ROOT, environment, free_port
from tests.factories import photo
from tests.services.conftest import promote
from vitrine.home import find_home

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("targets")
    promote(find_home({"VITRINE_HOME": str(folder / "home")}), folder, seed=1)
    return folder


@pytest.fixture(scope="module", params=["bentofile.yaml", "bentofile.gpu.yaml"])
def built(request: pytest.FixtureRequest, folder: Path) -> Path:
    """The folder of a bento."""
    target = "gpu" if "gpu" in request.param else "cpu"
    done = subprocess.run(
        [sys.executable, "-m", "bentoml", "build", "-f", request.param, "--version", target],
        cwd=ROOT,
        env=environment(folder, VITRINE_HOME=str(folder / "home"), UV_OFFLINE="1", PIP_NO_INDEX="1"),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder / "bentoml" / "bentos" / "vitrine" / target


def dockerfile(built: Path) -> str:
    return (built / "env/docker/Dockerfile").read_text()


def variables(built: Path) -> dict[str, str]:
    return dict(re.findall(r"^ARG (\w+)=(.*)$", dockerfile(built), re.MULTILINE))


def requirements(built: Path) -> set[str]:
    lines = (built / "env/python/requirements.txt").read_text().split()
    return {re.split(r"[\[<>=]", line)[0].lower() for line in lines}


def test_the_image_is_a_plain_python_that_runs_as_a_user(built: Path) -> None:
    assert "FROM python:3.11-slim " in dockerfile(built)
    assert re.search(r"^USER bentoml$", dockerfile(built), re.MULTILINE)


def test_in_the_image_grpc_listens_outside_and_nobody_phones_home(built: Path) -> None:
    told = yaml.safe_load((built / "bento.yaml").read_text())

    assert "ENV BENTOML_CONTAINERIZED=true" in dockerfile(built)  # services.config: then 0.0.0.0:50051
    assert told["labels"]["grpc-port"] == "50051"
    assert variables(built)["BENTOML_DO_NOT_TRACK"] == "True"


def test_memory_goes_back_to_the_system_in_the_image_too(built: Path) -> None:
    assert variables(built)["MALLOC_MMAP_THRESHOLD_"] == str(8 << 20)


def test_the_image_has_the_servers_libraries_and_no_training(built: Path) -> None:
    found = requirements(built)

    assert {"numpy", "grpcio", "onnxruntime", "tokenizers", "sqlalchemy", "psycopg", "opentelemetry-sdk"} <= found
    assert not {"torchvision", "dvc", "lightning", "timm"} & found
    assert not list((built / "src").glob("training*"))


def test_the_gpu_target_adds_torch_and_tensorrt_and_asks_for_the_driver(built: Path) -> None:
    gpu = built.name == "gpu"

    assert {"torch", "onnx", "ml_dtypes", "tensorrt-cu13"} & requirements(built) == (
        {"torch", "onnx", "ml_dtypes", "tensorrt-cu13"} if gpu else set()
    )
    assert (variables(built).get("NVIDIA_VISIBLE_DEVICES"), variables(built).get("VITRINE_BACKEND")) == (
        ("all", "auto") if gpu else (None, None)
    )
    assert ("--mount=type=secret,id=UV_EXTRA_INDEX_URL" in dockerfile(built)) == gpu


def test_the_version_travels_inside(built: Path) -> None:
    told = yaml.safe_load((built / "bento.yaml").read_text())
    tags = [model["tag"] for service in told["services"] for model in service["models"]]

    assert [tag.split(":")[0] for tag in tags] == ["tiny-search"]


def test_the_gpu_target_is_the_cpu_target_and_more() -> None:
    cpu, gpu = (yaml.safe_load((ROOT / name).read_text()) for name in ("bentofile.yaml", "bentofile.gpu.yaml"))

    assert set(cpu["python"]["packages"]) < set(gpu["python"]["packages"])
    assert {key: cpu[key] for key in ("service", "include", "exclude")} == {
        key: gpu[key] for key in ("service", "include", "exclude")
    }


def test_a_bento_serves_without_any_network(built: Path, folder: Path) -> None:
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-rn", "true"], check=False).returncode:
        pytest.skip("this machine gives no network namespaces")
    if built.name == "gpu":
        pytest.skip("the same code; its engine needs a GPU")
    (folder / "photo.jpg").write_bytes(photo(1))
    done = subprocess.run(
        ["unshare", "-rn", sys.executable, str(ROOT / "tests/e2e/offline.py"), "vitrine:cpu",
         str(free_port()), str(free_port()), str(folder / "photo.jpg")],
        cwd=folder,
        env=environment(folder) | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )  # fmt: skip

    assert done.stdout.split("\n")[:2] == ["(1, 8)", "0"], done.stderr
