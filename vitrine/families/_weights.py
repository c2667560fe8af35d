"""What both families share: reading a weights address and loading safetensors, never pickles."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from vitrine.errors import BadInput, NotFound, Unavailable

SEED = 0
"""`random` weights are the same everywhere: a random network is a baseline, not a surprise."""


def parse_weights(text: str) -> tuple[str, str]:
    """Split a weights address into its kind and the rest.

    Raises:
        BadInput: it is neither `hub[:TAG]` nor `file:PATH` nor `random`.

    >>> parse_weights("hub:in1k")
    ('hub', 'in1k')
    """
    kind, colon, rest = text.partition(":")
    if kind == "hub" or (kind == "file" and rest) or (kind == "random" and not colon):
        return kind, rest
    raise BadInput(
        f"weights {text!r} are not known; use hub, hub:TAG, file:PATH.safetensors or random", field="weights"
    )


def near(name: str, known: Iterable[str]) -> str:
    """The known names closest to a wrong one, for an error message."""
    known = list(known)
    close = (
        difflib.get_close_matches(name, known, n=4, cutoff=0.5)
        or [k for k in known if name.split("_", maxsplit=1)[0] in k][:4]
    )
    return f"did you mean {', '.join(close)}?" if close else f"{len(known)} are known, none of a similar name"


def load_safetensors(path: Path) -> dict[str, torch.Tensor]:
    """Read a safetensors file.

    Raises:
        NotFound: no such file.
        BadInput: another format; pickled formats run code when read, so they are refused unread.
    """
    if path.suffix != ".safetensors":
        raise BadInput(
            f"{path.name} is no .safetensors file; pickled weights can run code when they are read and are refused: "
            "convert them once with safetensors.torch.save_file",
            field="weights",
        )
    if not path.is_file():
        raise NotFound(f"no weights file at {path}")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise BadInput(f"{path} is not valid safetensors: {error}", field="weights") from error


def fit_weights(
    module: torch.nn.Module, tensors: Mapping[str, torch.Tensor], path: Path, surplus: Callable[[str], bool]
) -> None:
    """Put tensors into a module in place; `surplus` says which unknown names may be left over.

    Raises:
        BadInput: tensors are missing, unknown or of another shape.
    """
    try:
        result = module.load_state_dict(dict(tensors), strict=False)
    except RuntimeError as error:
        raise BadInput(
            f"the weights in {path} do not fit: {str(error).splitlines()[-1].strip()}", field="weights"
        ) from error
    unknown = [name for name in result.unexpected_keys if not surplus(name)]
    if result.missing_keys or unknown:
        raise BadInput(
            f"the weights in {path} do not fit this architecture: {len(result.missing_keys)} tensors are missing "
            f"{_some(result.missing_keys)}, {len(unknown)} are unknown {_some(unknown)}",
            field="weights",
        )


@contextmanager
def hub_errors(what: str) -> Iterator[None]:
    """Turn whatever a hub download raises into one sentence."""
    try:
        yield
    except Exception as error:  # the hub's client raises HTTP, file and value errors of several libraries
        raise Unavailable(
            f"the weights of {what} could not be fetched from the hub ({type(error).__name__}); check the network "
            "connection, or give weights: file:PATH.safetensors of a copy on this disk"
        ) from error


@contextmanager
def seeded(seed: int = SEED) -> Iterator[None]:
    """Draw random weights from a fixed seed without moving the caller's generator."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def embedding_dim(module: torch.nn.Module, height: int, width: int, what: str) -> int:
    """D, by running one blank photo through the network.

    Raises:
        BadInput: the output is not (B, D), or the network does not take this size.
    """
    try:
        with torch.no_grad():
            out = module(torch.zeros(1, 3, height, width))
    except (RuntimeError, AssertionError) as error:
        raise BadInput(f"{what} cannot take images of {height}x{width}: {error}", field="image_size") from error
    if out.ndim != 2:
        raise BadInput(f"{what} gives an output of shape {tuple(out.shape)} instead of one vector an image")
    return int(out.shape[1])


def _some(names: Iterable[str]) -> str:
    names = list(names)
    return f"({', '.join(names[:3])}{', …' if len(names) > 3 else ''})" if names else ""
