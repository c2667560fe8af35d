"""What a version's vectors and its own classifier say about the labels of the queries."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitrine.calibration import measure_confidence
from vitrine.classification import (
    ClassificationScores,
    Probe,
    confusions,
    knn_predict,
    linear_probe,
    score_predictions,
)
from vitrine.embedding import Space
from vitrine.errors import Unsupported
from vitrine.items import EvalProtocol, Item
from vitrine.label_curve import CurvePoint, Labelled, label_curve
from vitrine.progress import Track, quiet

_NEIGHBOURS = 5
_CONFUSIONS = 20


@dataclass(frozen=True)
class Classified:
    """Scores by classifier (`own`, `knn`, `probe`, as far as they apply), and what is to be said about each.

    Attributes:
        curve: accuracy with fewer training labels; empty where nothing was trained on.
        warnings: sentences on what limits the scores.
    """

    scores: dict[str, ClassificationScores]
    said: dict[str, Any]
    curve: list[CurvePoint] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def classify_queries(space: Space, protocol: EvalProtocol, queries: Sequence[Item], track: Track = quiet) -> Classified:
    """Label the queries with the version's classifier, by their neighbours and by a linear probe.

    The last two learn from the `train` split and choose on `val`, never from the queries.
    Protocols that ask the same queries share the answer.
    """
    key = ("classified", protocol.query)
    kept = space.shared.get(key)
    if not isinstance(kept, Classified):
        kept = space.shared[key] = _classify(space, protocol, queries, track)
    return kept


def most_confused(score: ClassificationScores, queries: Sequence[Item]) -> list[dict[str, Any]]:
    """The most frequent wrong answers of a classifier, with how often each occurs."""
    found = confusions([item.label for item in queries], score.answers)
    return [dataclasses.asdict(one) for one in found[:_CONFUSIONS]]


def _classify(space: Space, protocol: EvalProtocol, queries: Sequence[Item], track: Track) -> Classified:
    true = [item.label for item in queries]
    own, about = _own_scores(true, space.label_names, space.probabilities(queries))
    found = Classified({"own": own} if own else {}, {"own": about})
    train, val = space.dataset.split("train"), space.dataset.split("val")
    reason = _nothing_to_learn(train, true, protocol)
    if reason is not None:
        found.said["knn"] = found.said["probe"] = reason
        return found
    found.warnings.extend(_unlearned(true, train))
    if "val" in protocol.query:
        val = []  # the strength may not be chosen on what is scored
    learned, chosen, asked = (_labelled(space, items) for items in (train, val, queries))
    _add_neighbours(found, learned, asked)
    try:
        _add_probe(found, learned, chosen, asked, track)
    except Unsupported as error:
        found.said["probe"] = f"not applicable: {error}"
    return found


def _nothing_to_learn(train: Sequence[Item], true: Sequence[str], protocol: EvalProtocol) -> str | None:
    if not train or "train" in protocol.query:
        return "not applicable: no training items apart from the queries"
    if not set(true) & {item.label for item in train}:
        return "not applicable: no query is of a class that was trained on"
    return None


def _unlearned(true: Sequence[str], train: Sequence[Item]) -> list[str]:
    """A sentence where some queries cannot be right: their label is on no training item."""
    known = {item.label for item in train}
    out = sum(label not in known for label in true)
    if not out:
        return []
    return [f"{out} of {len(true)} queries have a label without training items; knn and probe count them as wrong"]


def _labelled(space: Space, items: Sequence[Item]) -> Labelled:
    return Labelled(space.vectors(items), [item.label for item in items])


def _add_neighbours(found: Classified, train: Labelled, queries: Labelled) -> None:
    predicted = knn_predict(train.vectors, train.labels, queries.vectors, k=_NEIGHBOURS)
    found.scores["knn"] = score_predictions(queries.labels, predicted)
    found.said["knn"] = {"k": _NEIGHBOURS}


def _add_probe(found: Classified, train: Labelled, val: Labelled, queries: Labelled, track: Track) -> None:
    """The probe's scores, and those of both classifiers with fewer labels."""
    probe = linear_probe(train.vectors, train.labels, val.vectors, val.labels, queries.vectors, track=track)
    scores = score_predictions(queries.labels, probe.predicted)
    found.scores["probe"] = _with_confidence(scores, queries.labels, probe.names, probe.probabilities)
    found.said["probe"] = {
        "strength": probe.strength,
        "val_accuracy": probe.val_accuracy,
        "converged": probe.converged,
        "items": probe.items,
    }
    found.warnings.extend(_limits(probe, len(train.labels)))
    all_labels = CurvePoint(
        1.0, len(train.labels), 1, found.scores["knn"].accuracy, None, found.scores["probe"].accuracy, None
    )
    found.curve.extend([*label_curve(train, val, queries, k=_NEIGHBOURS, track=track), all_labels])


def _limits(probe: Probe, items: int) -> list[str]:
    said = []
    if probe.items < items:
        said.append(f"the linear probe was fitted on a sample of {probe.items} of {items} training items")
    if not probe.converged:
        said.append("the linear probe stopped at its last allowed step; its scores are a lower estimate")
    return said


def _own_scores(
    true: list[str], names: Sequence[str], probabilities: NDArray[np.float32] | None
) -> tuple[ClassificationScores | None, str]:
    """The version's own classifier on the queries, or why it cannot answer."""
    unknown = set(true) - set(names)
    if probabilities is None or not names:
        return None, "not applicable: the version has no classifier"
    if unknown:
        return None, f"not applicable: {len(unknown)} of {len(set(true))} labels are unknown to the version"
    predicted = [names[column] for column in probabilities.argmax(axis=1)]
    scores = _with_confidence(score_predictions(true, predicted), true, names, probabilities)
    return scores, "mean over each query's images"


def _with_confidence(
    scores: ClassificationScores, true: Sequence[str], names: Sequence[str], probabilities: NDArray[np.floating]
) -> ClassificationScores:
    """The scores that need the probabilities (n, C) and not the answers alone, added."""
    places = {name: column for column, name in enumerate(names)}
    found = measure_confidence(probabilities, np.array([places.get(label, -1) for label in true]))
    return dataclasses.replace(scores, confidence=found.scores, per_item=found.per_item, bins=found.bins)
