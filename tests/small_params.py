"""The demo profile around one small catalogue named `demo`: the same recipe, a fraction of the work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

PROFILE = Path(__file__).parent.parent / "profiles/demo.yaml"


def small_params(**options: int) -> dict[str, Any]:
    """Plain values of params.yaml with the dataset `demo`, the backbone `mini` and two cells; `options` are the dataset's."""
    params: dict[str, Any] = yaml.safe_load(PROFILE.read_text())
    demo = {"format": "demo", "path": "vitrine/datasets/demo.py", "options": options}
    mini = params["backbones"]["trained"]["mini"] | {"dataset": "demo"}
    cells = {
        f"{name}--mini--demo": {"strategy": name, "backbone": "mini", "dataset": "demo"}
        for name in ("pretrained", "top")
    }
    return params | {
        "datasets": {"demo": demo},
        "backbones": {"trained": {"mini": mini}, "fetched": {}},
        "features": {"mini--demo": {"backbone": "mini", "dataset": "demo"}},
        "cells": cells,
        "crosses": {},
    }
