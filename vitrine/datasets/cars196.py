"""Format `cars196`: Stanford Cars (Krause et al., 3DRR 2013), split by class for retrieval.

cars_annos.mat, car_ims/000001.jpg ...                   one list of all 16,185 photos, or else

devkit/cars_meta.mat, devkit/cars_train_annos.mat        the same photos in two lists
cars_test_annos_withlabels.mat (here or in devkit/)
cars_train/00001.jpg ..., cars_test/00001.jpg ...

Classes 1 to 98 are for training and 99 to 196 for test, whatever the list says of classification
splits: Song et al., CVPR 2016, section 5. Test photos search among themselves.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from numbers import Integral
from pathlib import Path
from typing import Any

from vitrine.datasets._benchmark import PARTIAL, SELF, Benchmark, Photo, malformed
from vitrine.errors import BadInput
from vitrine.items import Split
from vitrine.ports import Source

OPTIONS: Mapping[str, str] = PARTIAL

_TRAINING_CLASSES = 98
_CARS = Benchmark(
    name="Cars196",
    layout=__doc__.split("\n\n", 1)[1].rsplit("\n\n", 1)[0],
    counts={"train": 8_054, "test": 8_131, "classes": 196},  # 16,185 photos
    source="Krause et al. 2013; split of Song et al. 2016",
    licence="research only (Stanford Cars: non-commercial, the photos' owners keep their rights)",
    protocols=SELF,
    exact=True,
)


def read(path: Path, options: Mapping[str, Any]) -> Source:
    """Look at an unpacked download in either of its two forms.

    Raises:
        BadInput: a file is missing or no MATLAB file, or the counts are not the published ones.
    """
    if (path / "car_ims").is_dir() or (path / "cars_annos.mat").is_file():
        listing = _CARS.existing(path / "cars_annos.mat")
        _CARS.existing(path / "car_ims")
        content = _matlab(listing, "annotations", "class_names")
        photos = list(_photos(listing, content["annotations"], content["class_names"], "relative_im_path", ""))
    else:
        photos = list(_devkit(path))
    return _CARS.source_of(path, photos, options)


def _devkit(path: Path) -> Iterator[Photo]:
    """Photos of the two lists; they number the classes alike."""
    names = _matlab(_CARS.existing(path / "devkit/cars_meta.mat"), "class_names")["class_names"]
    labelled = "cars_test_annos_withlabels.mat"
    lists = {
        "cars_train": _CARS.existing(path / "devkit/cars_train_annos.mat"),
        "cars_test": _CARS.existing(path / labelled, path / "devkit" / labelled),
    }
    for folder, listing in lists.items():
        _CARS.existing(path / folder)
        yield from _photos(listing, _matlab(listing, "annotations")["annotations"], names, "fname", f"{folder}/")


def _photos(path: Path, annotations: list[Any], names: list[str], file_field: str, folder: str) -> Iterator[Photo]:
    for number, row in enumerate(annotations, 1):
        known = isinstance(row, dict) and file_field in row and isinstance(row.get("class"), Integral)
        if not known or not 1 <= row["class"] <= len(names):
            raise malformed(path, number, row, f"it needs {file_field} and class, a number from 1 to {len(names)}")
        # "Ram C/V Cargo Van": a slash would read as a level of the class tree.
        label = str(names[row["class"] - 1]).replace("/", "-")
        split: Split = "train" if row["class"] <= _TRAINING_CLASSES else "test"
        yield Photo(f"{folder}{row[file_field]}", label, split, (label,))


def _matlab(path: Path, *wanted: str) -> dict[str, list[Any]]:
    """Variables of a MATLAB file as lists; a list of one is written without a list there."""
    from scipy.io import loadmat

    try:
        found = loadmat(path, simplify_cells=True)
    except Exception as error:  # the reader raises value, type and index errors of its own on broken files
        raise BadInput(f"{path} is no MATLAB file that can be read ({error}); download it again") from error
    lacking = [name for name in wanted if name not in found]
    if lacking:
        raise BadInput(f"{path} has no variable {', '.join(lacking)}; it is not the list of Cars196")
    return {name: _as_list(found[name]) for name in wanted}


def _as_list(value: Any) -> list[Any]:
    return [value] if isinstance(value, dict | str) else list(value)
