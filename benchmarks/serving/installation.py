"""A registry whose production is the comparison's model, over a catalogue of a few photos: what the bento serves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vitrine.bundle import Bundle
from vitrine.collection import write_collection
from vitrine.encoder import load_encoder
from vitrine.events import Promoted
from vitrine.home import find_home
from vitrine.registry import open_registry

MODEL, CATALOGUE = "bench-search", "bench"


def install(root: Path, bundle: Bundle, photos: Sequence[Path]) -> Path:
    """Make it under `root`, once; returns VITRINE_HOME."""
    home = find_home({"VITRINE_HOME": str(root)})
    registry = open_registry(home)
    if MODEL in registry.state().models:
        return root
    version = registry.register(MODEL, bundle).version
    name = f"{CATALOGUE}--{MODEL}--{version}"
    write_collection(
        home.collections / name,
        name=name,
        catalogue=CATALOGUE,
        catalogue_digest="0" * 64,
        model=MODEL,
        version=version,
        digest=bundle.manifest.digest,
        vectors=load_encoder(bundle, threads=2).embed([photo.read_bytes() for photo in photos]).vectors,
        item_ids=[photo.stem for photo in photos],
        payloads=[{"label": "made"} for _ in photos],
    )
    registry.append(Promoted(model=MODEL, version=version, catalogue=CATALOGUE, collection=name, **registry.stamp()))
    return root
