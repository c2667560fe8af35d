"""A version's card in Markdown: what it is, what it learned from, how well it does, what it may be used for and where it ends.

Everything on it is read from the registry, so it says what was measured and nothing else.
After Mitchell et al., Model Cards for Model Reporting (2019), https://arxiv.org/abs/1810.03993.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from vitrine import versions
from vitrine.events import Evaluated, Event, PromotionStarted
from vitrine.lifecycle import VersionState
from vitrine.manifest import Manifest
from vitrine.modelview import aliases
from vitrine.registry import Registry

_UNKNOWN = {"", "unknown"}


def model_card(registry: Registry, ref: str) -> str:
    """The card of a version; only its manifest and its labels are read, not its graphs.

    Raises:
        NotFound: no such version.
        Tampered: its manifest was changed.
    """
    version = registry.resolve(ref)
    manifest = versions.manifest_of(registry.artifacts, version)
    name = f"{version.registered.model}@{version.number}"
    known = aliases(registry.state().model(version.registered.model), version.number)
    events = [e for e in registry.history(version.registered.model) if getattr(e, "version", None) == version.number]
    parts = [
        f"# {name}",
        _status(known, version),
        _section("What it is", _nature(manifest, version)),
        _section("What it learned from", _origin(version)),
        _section("How well it does", _measured(version)),
        _section("Gates of its last promotion", _gates(events)),
        _section("Overrides", _overrides(events)),
        _section("Licences", _licences(manifest)),
        _section("Limits", _limits(manifest, version)),
        _section("History", [f"- {e.at[:19]} {_plain(e.actor)}: {_sentence(e)}" for e in events]),
    ]
    return "\n\n".join(parts) + "\n"


def _status(known: Sequence[str], version: VersionState) -> str:
    words = [f"also `{alias}`" for alias in known] + ["**retired**: not to be promoted any more"] * version.retired
    return f"Digest `{version.digest}`" + (f"; {', '.join(words)}" if words else "") + "."


def _nature(manifest: Manifest, version: VersionState) -> list[str]:
    image, parity = manifest.image, version.registered.parity
    lines = [
        f"- Turns {' or '.join(manifest.modalities)} into unit vectors of {manifest.dim} numbers, compared by cosine."
    ]
    if image is not None:
        lines.append(f"- Photos are read as {image.height} x {image.width} pixels ({image.resize}).")
    if manifest.labels is not None:
        lines.append(f"- Also classifies; it abstains under a probability of {manifest.labels.abstain_below:.3f}.")
    lines.append(f"- Files: {', '.join(f'`{file.path}` ({file.size:,} bytes)' for file in manifest.files())}.")
    if parity is not None:
        lines.append(
            f"- Exported graphs against {parity['reference']} on {parity['images']} photos: worst cosine "
            f"{parity['min_cosine']:.6f}, ten nearest agree to {parity['top10_overlap']:.3f}."
        )
    return lines


def _origin(version: VersionState) -> list[str]:
    lineage = version.registered.lineage
    plain = {key: value for key, value in lineage.items() if isinstance(value, str | int | float) and value != ""}
    lines = [f"- {key}: {_plain(value)}" for key, value in sorted(plain.items())]
    origin = lineage.get("imported_from")
    if isinstance(origin, Mapping):
        lines.append(
            f"- imported from an export of {_plain(origin.get('ref'))}, registered there {_plain(origin.get('registered'))}"
        )
    return lines or ["Nothing is recorded."]


def _measured(version: VersionState) -> list[str]:
    newest = {(e.dataset, e.protocol, e.via): e for e in version.evaluations}
    if not newest:
        return ["It was not measured yet."]
    lines: list[str] = []
    for evaluation in newest.values():
        lines += [*_evaluation(evaluation), ""]
    return lines[:-1]


def _evaluation(evaluation: Evaluated) -> list[str]:
    details = evaluation.details
    units = f", {details['units']} of {details['unit']}" if details.get("units") else ""
    intervals = details.get("intervals", {})
    rows = [
        f"| {name} | {value:.4f} | {_interval(intervals.get(name))} |"
        for name, value in sorted(evaluation.metrics.items())
    ]
    return [
        f"### {evaluation.dataset}/{evaluation.protocol} via {evaluation.via}",
        "",
        f"{evaluation.queries} queries{units}, gallery of {evaluation.gallery}, measured {evaluation.at[:10]}.",
        "",
        "| metric | value | 95 % interval |",
        "|---|---|---|",
        *rows,
    ]


def _interval(ends: Sequence[float] | None) -> str:
    return f"{ends[0]:.4f} to {ends[1]:.4f}" if ends else "none"


def _gates(events: Iterable[Event]) -> list[str]:
    started = [e for e in events if isinstance(e, PromotionStarted)]
    if not started:
        return ["It was never promoted."]
    rows = [f"| {v['gate']} | {v['outcome']} | {_plain(v['reason'])} |" for v in started[-1].verdicts]
    return ["| gate | outcome | reason |", "|---|---|---|", *rows]


def _overrides(events: Iterable[Event]) -> list[str]:
    lines = [
        f"- {event.at[:10]}: {_plain(event.actor)} let {verdict['gate']} pass: {_plain(verdict['override'])} "
        f"(the gate said: {_plain(verdict['reason'])})"
        for event in events
        if isinstance(event, PromotionStarted)
        for verdict in event.verdicts
        if verdict["outcome"] == "overridden"
    ]
    return lines or ["None."]


def _licences(manifest: Manifest) -> list[str]:
    return [
        f"- {what}: {_plain(name)}"
        for what, name in (("weights", manifest.licences.weights), ("data", manifest.licences.data))
    ]


def _limits(manifest: Manifest, version: VersionState) -> list[str]:
    datasets = sorted({e.dataset for e in version.evaluations})
    lines = [
        f"- Measured on {', '.join(datasets)} alone; how it does elsewhere is not known."
        if datasets
        else "- Not measured."
    ]
    if "text" not in manifest.graphs:
        lines.append("- Reads no text: it searches by photo alone.")
    if manifest.labels is None:
        lines.append("- Knows no categories of its own.")
    if _UNKNOWN & {manifest.licences.weights, manifest.licences.data}:
        lines.append("- A licence is unknown: ask before it is used in public.")
    if version.registered.lineage.get("git_dirty"):
        lines.append("- Made from a working tree with changes that no commit holds.")
    for evaluation in version.evaluations:
        skipped = evaluation.details.get("skipped")
        if skipped:
            lines.append(f"- {skipped} queries on {evaluation.dataset}/{evaluation.protocol} had nothing to find.")
    return list(dict.fromkeys(lines))


def _sentence(event: Event) -> str:
    return _plain(event.sentence()) + (f" -- {_plain(event.why)}" if event.why else "")


def _section(title: str, lines: Sequence[str]) -> str:
    return f"## {title}\n\n" + "\n".join(lines)


def _plain(value: object) -> str:
    """Text that stays text in a Markdown table, whatever somebody typed as a reason."""
    text = " ".join(str(value).split())
    for mark in ("\\", "|", "<", "`", "*", "_", "["):
        text = text.replace(mark, f"\\{mark}")
    return text
