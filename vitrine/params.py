"""Reads params.yaml as plain values; each part is checked by the settings class that uses it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from vitrine.errors import BadInput


def read_params(path: Path) -> dict[str, Any]:
    """The file's mapping; an absent file is an empty one.

    Raises:
        BadInput: not YAML, or not a mapping.
    """
    if not path.exists():
        return {}
    try:
        raw = yaml.safe_load(path.read_text()) or {}
    except yaml.YAMLError as error:
        raise BadInput(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(raw, dict):
        raise BadInput(f"{path} must be a mapping of settings, it is a {type(raw).__name__}")
    return raw
