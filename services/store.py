"""The BentoML model store as a cache of versions: where a built bento takes its model from.

The store is neither atomic nor tamper-proof, so an import runs under a file lock, is read back and verified,
and is made anew when it does not hold. Tags are `NAME:v000007-<digest12>`: a lookup accepts any unique prefix,
so the tag that comes back is compared with the one asked for.
"""

from __future__ import annotations

import fcntl
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import bentoml
import yaml
from bentoml.exceptions import NotFound as NotInStore

from vitrine.bundle import Bundle, read_bundle, write_bundle
from vitrine.errors import NotFound, Tampered

_TAG = re.compile(r"(?P<model>[a-z0-9-]+):v(?P<version>\d{6,})-(?P<digest>[0-9a-f]{12})")
_FOLDER = "bundle"


@dataclass(frozen=True)
class Pin:
    """A version in the store."""

    model: str
    version: int
    digest12: str

    @property
    def tag(self) -> str:
        """Its tag."""
        return f"{self.model}:v{self.version:06d}-{self.digest12}"


def parse_tag(tag: str) -> Pin | None:
    """The version that a tag names, or None where it is no tag of ours."""
    match = _TAG.fullmatch(tag)
    return Pin(match["model"], int(match["version"]), match["digest"]) if match else None


def pin_of(model: str, version: int, bundle: Bundle) -> Pin:
    """The pin of a registered version."""
    return Pin(model, version, bundle.manifest.digest[:12])


def ensure(model: str, version: int, bundle: Bundle) -> Pin:
    """Make sure that the version is in the store, whole, and return its pin."""
    pin = pin_of(model, version, bundle)
    with _locked(model):
        try:
            open_pinned(pin)
        except NotFound:
            _create(pin, bundle)
        except Tampered:
            bentoml.models.delete(pin.tag)
            _create(pin, bundle)
        open_pinned(pin)
    return pin


def open_pinned(pin: Pin) -> Bundle:
    """Read and verify a version of the store.

    Raises:
        NotFound: it is not there.
        Tampered: its content is not what the tag names.
    """
    try:
        stored = bentoml.models.get(pin.tag)
    except NotInStore as error:
        raise NotFound(f"{pin.tag} is not in the BentoML model store; build the bento again: bentoml build") from error
    if str(stored.tag) != pin.tag:
        raise NotFound(f"the BentoML model store answered {stored.tag} when asked for {pin.tag}")
    try:
        bundle = read_bundle(Path(stored.path) / _FOLDER)
    except NotFound as error:
        raise Tampered(f"{pin.tag} in the BentoML model store is incomplete: {error}") from error
    if not bundle.manifest.digest.startswith(pin.digest12):
        raise Tampered(f"{pin.tag} in the BentoML model store holds version content {bundle.manifest.digest[:12]}")
    return bundle


def pinned_in(bento_yaml: Path) -> Pin:
    """The version that a built bento carries.

    Raises:
        NotFound: it carries none.
    """
    bento = yaml.safe_load(bento_yaml.read_text())
    listed = [*(bento.get("models") or []), *(m for part in bento.get("services") or [] for m in part["models"])]
    for model in listed:
        pin = parse_tag(str(model["tag"]))
        if pin is not None:
            return pin
    raise NotFound(f"{bento_yaml} lists no version of ours; build the bento again where one is promoted")


def _create(pin: Pin, bundle: Bundle) -> None:
    metadata = {"digest": bundle.manifest.digest, "model": pin.model, "version": pin.version}
    with bentoml.models.create(pin.tag, module="vitrine", metadata=metadata) as draft:
        files = {ref.path: bundle.path(ref) for ref in bundle.manifest.files()}
        write_bundle(Path(draft.path) / _FOLDER, bundle.manifest, files, bundle.lineage, bundle.parity)


@contextmanager
def _locked(model: str) -> Iterator[None]:
    from bentoml._internal.configuration.containers import BentoMLContainer  # the store's folder has no public name

    folder = Path(BentoMLContainer.bentoml_home.get())
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f".vitrine-{model}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
