"""What a version's vectors and its own classifier say about the labels of the queries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitrine.classification import ClassificationScores, knn_predict, linear_probe, score_predictions
from vitrine.embedding import Space
from vitrine.items import EvalProtocol, Item

_NEIGHBOURS = 5


@dataclass(frozen=True)
class Classified:
    """Scores by classifier (`own`, `knn`, `probe`, as far as they apply), and what is to be said about each."""

    scores: dict[str, ClassificationScores]
    said: dict[str, Any]


def classify_queries(space: Space, protocol: EvalProtocol, queries: Sequence[Item]) -> Classified:
    """Label the queries with the version's classifier, by their neighbours and by a linear probe.

    The last two learn from the `train` split and choose on `val`, never from the queries.
    Protocols that ask the same queries share the answer.
    """
    kept = space.shared.get(protocol.query)
    if not isinstance(kept, Classified):
        kept = space.shared[protocol.query] = _classify(space, protocol, queries)
    return kept


def _classify(space: Space, protocol: EvalProtocol, queries: Sequence[Item]) -> Classified:
    true = [item.label for item in queries]
    own, about = _own_scores(true, space.label_names, space.probabilities(queries))
    scores = {"own": own} if own else {}
    said: dict[str, Any] = {"own": about}
    train, val = space.dataset.split("train"), space.dataset.split("val")
    if not train or "train" in protocol.query:
        said["probe"] = said["knn"] = "not applicable: no training items apart from the queries"
        return Classified(scores, said)
    if not set(true) & {item.label for item in train}:
        said["probe"] = said["knn"] = "not applicable: no query is of a class that was trained on"
        return Classified(scores, said)
    if "val" in protocol.query:
        val = []  # the strength may not be chosen on what is scored
    asked, vectors, labels = space.vectors(queries), space.vectors(train), [item.label for item in train]
    scores["knn"] = score_predictions(true, knn_predict(vectors, labels, asked, k=_NEIGHBOURS))
    probe = linear_probe(vectors, labels, space.vectors(val), [item.label for item in val], asked)
    scores["probe"] = score_predictions(true, probe.predicted)
    said["knn"] = {"k": _NEIGHBOURS}
    said["probe"] = {"strength": probe.strength, "val_accuracy": probe.val_accuracy}
    return Classified(scores, said)


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
    return score_predictions(true, predicted), "mean over each query's images"
