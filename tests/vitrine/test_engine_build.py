"""Building engines of registered versions: calibrated and judged on training items, kept whole or not at all."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.factories import photo, tiny_bundle
from tests.runner import run_vitrine
from vitrine import engine_build, engine_parity
from vitrine.dataset import Dataset, find_dataset
from vitrine.encoder import load_encoder
from vitrine.engine_build import BuildPlan, build_engine
from vitrine.engine_parity import Limit, compare_engines
from vitrine.errors import BadInput, NotFound, Refused
from vitrine.events import EngineBuilt
from vitrine.home import Home, find_home
from vitrine.progress import quiet
from vitrine.registry import Registry, open_registry

TRAIN, TEST = 40, 6
PLAN = BuildPlan("onnxruntime", "int8", "shop", rows=16, judged=16)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a version and a dataset whose splits the folders name."""
    root = tmp_path_factory.mktemp("shop")
    for number in range(TRAIN + TEST):
        split = "train" if number < TRAIN else "test"
        place = root / "photos" / split / ("mug" if number % 2 else "jug")
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number:03}.jpg").write_bytes(photo(number))
    imported = run_vitrine(root, "data", "import", "image-folder", "photos", "--name", "shop")
    assert imported.code == 0, imported.err
    tiny_bundle(root / "version", texts=True)
    assert run_vitrine(root, "models", "register", "version", "--name", "shop").code == 0
    return root


@pytest.fixture
def home(root: Path, tmp_path: Path) -> Home:
    """The registry of `root`, with engines of its own."""
    import shutil

    shutil.copytree(root, tmp_path / "shop")
    place = tmp_path / "shop"
    return find_home({"VITRINE_HOME": str(place / ".vitrine"), "VITRINE_DATASETS": str(place / "data")})


@pytest.fixture
def registry(home: Home) -> Registry:
    return open_registry(home)


def test_an_int8_engine_is_built_told_and_loaded(home: Home, registry: Registry) -> None:
    built = build_engine(registry, home, "shop@1", PLAN)

    bundle = registry.open("shop@1")
    exact, coarse = (load_encoder(bundle, precision=kind, threads=1, engines=home.engines) for kind in ("fp32", "int8"))
    a, b = (encoder.embed([photo(1), photo(2)]).vectors for encoder in (exact, coarse))
    assert (coarse.engine.precision, built.fresh) == ("int8", True)
    assert not np.array_equal(a, b)
    assert (a * b).sum(axis=1).min() > 0.95
    (event,) = [one for one in registry.history("shop") if isinstance(one, EngineBuilt)]
    assert (event.backend, event.precision, event.version) == ("onnxruntime", "int8", 1)
    assert registry.verify("shop@1") == []


def test_building_again_finds_what_is_there(home: Home, registry: Registry) -> None:
    build_engine(registry, home, "shop@1", PLAN)

    assert not build_engine(registry, home, "shop@1", PLAN).fresh
    assert len([one for one in registry.history("shop") if isinstance(one, EngineBuilt)]) == 1


def test_a_damaged_engine_is_built_again(home: Home, registry: Registry) -> None:
    folder = build_engine(registry, home, "shop@1", PLAN).folder
    (folder / "image.onnx").write_bytes(b"")

    assert build_engine(registry, home, "shop@1", PLAN).fresh
    assert load_encoder(registry.open("shop@1"), precision="int8", engines=home.engines).engine.precision == "int8"


def test_an_engine_too_far_off_is_refused_and_not_kept(
    home: Home, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(engine_parity.LIMITS, "int8", Limit(1.0, 1.0))  # type: ignore[misc]  # it is a dict

    with pytest.raises(
        Refused, match=r"int8 engine is too far from onnxruntime fp32: worst cosine 0\.\d+ .* nothing was kept"
    ):
        build_engine(registry, home, "shop@1", PLAN)
    assert list(home.engines.iterdir()) == []
    assert not [one for one in registry.history("shop") if isinstance(one, EngineBuilt)]


def test_the_figures_of_the_record_are_those_of_the_engine(home: Home, registry: Registry) -> None:
    built = build_engine(registry, home, "shop@1", PLAN)

    parity = built.record.parity
    assert (parity["engine"], parity["precision"], parity["images"], parity["texts"]) == ("onnxruntime", "int8", 16, 16)
    assert 0.95 <= parity["min_cosine"] < 1
    assert built.record.calibration["rows"] == {"image": 16, "text": 16}


class Watched:
    """A dataset that keeps which photos were asked for."""

    def __init__(self, dataset: Dataset) -> None:
        self.asked: list[str] = []
        self.dataset = dataset

    def __getattr__(self, name: str) -> Any:
        return getattr(self.dataset, name)

    def photo(self, image: str) -> bytes:
        self.asked.append(image)
        return self.dataset.photo(image)


def test_only_training_photos_are_looked_at_and_none_both_calibrates_and_judges(home: Home, registry: Registry) -> None:
    watched = Watched(find_dataset(home, "shop"))
    rows = engine_build._rows(registry.open("shop@1"), watched, PLAN, quiet)  # type: ignore[arg-type]

    training = {image for item in watched.split("train") for image in item.images}
    assert set(watched.asked) <= training
    assert len(set(watched.asked)) == 32
    calibrating, judging = ({row.tobytes() for row in some["image"]} for some in rows)
    assert not calibrating & judging


def test_a_precision_that_runs_without_building_is_told(home: Home, registry: Registry) -> None:
    with pytest.raises(
        BadInput, match="onnxruntime runs fp32 straight from the version, there is nothing to build; build one of: int8"
    ):
        build_engine(registry, home, "shop@1", dataclasses.replace(PLAN, precision="fp32"))


def test_a_dataset_that_is_not_there_is_told(home: Home, registry: Registry) -> None:
    with pytest.raises(NotFound, match="there is no dataset 'photos'"):
        build_engine(registry, home, "shop@1", dataclasses.replace(PLAN, dataset=""))  # the tiny version's own


def test_values_that_are_no_numbers_are_refused(root: Path) -> None:
    class Broken:
        name, precision = "broken", "fp16"

        def run(self, graph: str, inputs: Any) -> dict[str, Any]:
            del graph
            (rows,) = inputs.values()
            return {"embedding_out": np.full((len(rows), 8), np.nan, np.float32)}

    encoder = load_encoder(open_registry(find_home({"VITRINE_HOME": str(root / ".vitrine")})).open("shop@1"))
    rows = {"image": np.zeros((3, 32, 32, 3), np.uint8)}

    with pytest.raises(Refused, match="worst cosine nan"):
        compare_engines(encoder.bundle, encoder.engine, Broken(), rows)


def test_the_command_builds_lists_and_measures(home: Home) -> None:
    place = home.root.parent
    built = run_vitrine(place, "engine", "build", "shop@1", "--precision", "int8", "--dataset", "shop", "--rows", "16")
    listed = run_vitrine(place, "engine", "ls")

    assert built.code == 0, built.err
    assert "VITRINE_BACKEND=onnxruntime VITRINE_PRECISION=int8 vitrine serve" in built.out
    assert "int8" in listed.out


def test_ls_of_nothing_says_what_comes_next(tmp_path: Path) -> None:
    assert "vitrine engine build NAME@N --precision int8" in run_vitrine(tmp_path, "engine", "ls").out


def test_tensorrt_without_a_gpu_is_one_sentence_and_exit_code_6(home: Home) -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    ran = run_vitrine(home.root.parent, "engine", "build", "shop@1", "--backend", "tensorrt", "--dataset", "shop")

    assert ran.code == 6
    assert "tensorrt needs an NVIDIA GPU and its driver" in ran.err
    assert "Traceback" not in ran.err
