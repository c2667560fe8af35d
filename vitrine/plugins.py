"""A plug-in is a module; its file name is its key. This is the one loader.

`vitrine/datasets/image_folder.py` is the dataset format `image-folder`.
"""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType
from typing import Literal

from vitrine.errors import BadInput, Unavailable

Kind = Literal["datasets", "families", "backends", "indexes"]


def names(kind: Kind) -> list[str]:
    """Keys of all plug-ins of a kind, sorted. Imports none of them."""
    package = importlib.import_module(f"vitrine.{kind}")
    found = (module.name for module in pkgutil.iter_modules(package.__path__))
    return sorted(name.replace("_", "-") for name in found if not name.startswith("_"))


def load(kind: Kind, key: str) -> ModuleType:
    """Import one plug-in.

    Raises:
        BadInput: no plug-in of that key; the message lists the known ones.
        Unavailable: the library that it needs is not installed.
    """
    if key not in names(kind):
        raise BadInput(f"{key!r} is none of the {kind}: {', '.join(names(kind))}")
    try:
        return importlib.import_module(f"vitrine.{kind}.{key.replace('-', '_')}")
    except ModuleNotFoundError as error:
        raise Unavailable(
            f"{key} needs {error.name}, which is not installed; install the extra: pip install 'vitrine-embeddings[cpu]'"
        ) from error
