"""Classifying with embeddings: scores of answers, and two classifiers on frozen vectors."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from vitrine.errors import BadInput, Unsupported
from vitrine.progress import Track, quiet
from vitrine.ranking import nearest
from vitrine.sampling import stratified_rows

Floats = NDArray[np.float64]
PROBE_STRENGTHS = (0.1, 1.0, 10.0, 100.0)
PROBE_WORK = 5e9
"""About so many training items x dimensions x labels a probe is fitted on; of more it sees a seeded sample."""

_MOST_STEPS = 300


@dataclass(frozen=True)
class ClassificationScores:
    """Scores of one classifier on one set of items.

    A mean over labels is macro where every label counts once, weighted where it counts with its number of items.

    Attributes:
        accuracy: share of right answers.
        precision_macro, precision_weighted: of right answers / answers with that label (0 where never answered).
        recall_macro, recall_weighted: of right answers / items with that label (0 where none).
        f1_macro, f1_weighted: of their harmonic mean.
        n: items scored.
        correct: bool (n,), per item.
        answers: n labels, as answered.
        confidence: further scores by name, such as `ece`, where there are probabilities.
        per_item: what those scores are made of, (n,) each; their mean is the score, but for those in `bins`.
        bins: int64 (n,), the bin of each item; the score is the sum of the bins' absolute sums, over n.
    """

    accuracy: float
    precision_macro: float
    recall_macro: float
    f1_macro: float
    precision_weighted: float
    recall_weighted: float
    f1_weighted: float
    n: int
    correct: NDArray[np.bool_]
    answers: tuple[str, ...]
    confidence: Mapping[str, float] = field(default_factory=dict)
    per_item: Mapping[str, Floats] = field(default_factory=dict)
    bins: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)

    def averages(self) -> dict[str, float]:
        """The means over labels by name."""
        names = [f"{kind}_{mean}" for mean in ("macro", "weighted") for kind in ("precision", "recall", "f1")]
        return {name: float(getattr(self, name)) for name in names}

    def named(self, prefix: str) -> dict[str, float]:
        """Every score under `prefix/`, as result files name them."""
        values = {"accuracy": self.accuracy, **self.averages(), **self.confidence}
        return {f"{prefix}/{name}": value for name, value in values.items()}


def score_predictions(
    true: Sequence[str], predicted: Sequence[str], labels: Sequence[str] | None = None
) -> ClassificationScores:
    """Score answers; an answer outside `labels` (such as "" for an abstention) is simply wrong.

    Args:
        true: n labels.
        predicted: n answers.
        labels: what the means run over; None for every label that occurs on either side.

    Raises:
        BadInput: lengths differ, or there is nothing to score.
    """
    if len(true) != len(predicted) or not len(true):
        raise BadInput(f"{len(true)} true labels and {len(predicted)} predictions; give one of each an item")
    truth, answers = np.asarray(true, dtype=str), np.asarray(predicted, dtype=str)
    names = sorted({*true, *predicted} if labels is None else set(labels))
    correct = truth == answers
    hits, asked, answered = (_counts(side, names) for side in (truth[correct], truth, answers))
    columns = (hits / np.maximum(answered, 1), hits / np.maximum(asked, 1), 2 * hits / np.maximum(asked + answered, 1))
    macro, weighted = (_averages(columns, weight) for weight in (np.ones(len(names)), asked))
    accuracy = float(correct.mean())
    return ClassificationScores(accuracy, *macro, *weighted, len(truth), correct, tuple(answers.tolist()))


def _averages(columns: tuple[Floats, Floats, Floats], weights: Floats) -> tuple[float, float, float]:
    precision, recall, f1 = (float((column * weights).sum() / max(1.0, weights.sum())) for column in columns)
    return precision, recall, f1


@dataclass(frozen=True)
class Confusion:
    """How often items of one label were answered with another."""

    label: str
    answer: str
    count: int


def confusions(true: Sequence[str], predicted: Sequence[str]) -> list[Confusion]:
    """Every wrong answer that occurs, most frequent first: the confusion matrix off its diagonal, without zeros.

    Raises:
        BadInput: lengths differ.
    """
    if len(true) != len(predicted):
        raise BadInput(f"{len(true)} true labels and {len(predicted)} predictions; give one of each an item")
    found = Counter((label, answer) for label, answer in zip(true, predicted, strict=True) if label != answer)
    return [Confusion(*pair, count) for pair, count in sorted(found.items(), key=lambda one: (-one[1], one[0]))]


def _counts(side: NDArray[np.str_], names: Sequence[str]) -> Floats:
    found = dict(zip(*np.unique(side, return_counts=True), strict=True))
    return np.array([found.get(name, 0) for name in names], np.float64)


def knn_predict(
    train_vectors: NDArray[np.floating], train_labels: Sequence[str], vectors: NDArray[np.floating], k: int = 5
) -> list[str]:
    """Labels by a vote of the k nearest training items, each weighing its cosine (at least 1e-6).

    Equal votes go to the label with the nearer neighbour, equal neighbours to the lower training row.

    Args:
        train_vectors: (N, D), unit length.
        train_labels: N labels.
        vectors: (Q, D), unit length.
        k: voters; fewer where there are fewer training items.

    Raises:
        BadInput: nothing to learn from, or shapes do not fit.
    """
    _check_training(train_vectors, train_labels)
    if k < 1:
        raise BadInput(f"k={k}: at least one neighbour must vote", field="k")
    names, codes = np.unique(np.asarray(train_labels, dtype=str), return_inverse=True)
    winners: list[str] = []
    for block in nearest(vectors, train_vectors, depth=k):
        voters = codes[block.rows]
        weights = np.maximum(block.scores, 1e-6).astype(np.float64)
        votes = ((voters[:, :, None] == voters[:, None, :]) * weights[:, None, :]).sum(axis=2)
        best = votes.argmax(axis=1)
        winners.extend(str(names[code]) for code in voters[np.arange(len(voters)), best])
    return winners


@dataclass(frozen=True)
class Probe:
    """A linear probe's answers.

    Attributes:
        predicted: Q labels.
        names: C labels, the columns of `probabilities`.
        probabilities: float64 (Q, C).
        strength: the inverse regularisation that validation chose.
        val_accuracy: its accuracy there; NaN without validation items.
        converged: whether the chosen fit ended before its last allowed step.
        items: training items that it was fitted on.
    """

    predicted: list[str]
    names: list[str]
    probabilities: Floats
    strength: float
    val_accuracy: float
    converged: bool
    items: int


def linear_probe(
    train_vectors: NDArray[np.floating],
    train_labels: Sequence[str],
    val_vectors: NDArray[np.floating],
    val_labels: Sequence[str],
    vectors: NDArray[np.floating],
    *,
    track: Track = quiet,
) -> Probe:
    """Multinomial logistic regression (L-BFGS) on frozen vectors; validation chooses its strength, never the test.

    Where items x dimensions x labels exceed `PROBE_WORK`, it learns from a seeded stratified sample. It runs on one
    thread: the answer does not hang on their number, and products this small only wait for a second one.

    Args:
        train_vectors: (N, D), unit length.
        train_labels: N labels.
        val_vectors: (V, D); with V = 0 the strength is 1.
        val_labels: V labels.
        vectors: (Q, D), what to label.
        track: progress over the strengths that are tried.

    Raises:
        BadInput: nothing to learn from, or shapes do not fit.
        Unsupported: so many labels that even one item of each exceeds `PROBE_WORK`.
    """
    _check_training(train_vectors, train_labels)
    names = sorted(set(train_labels))
    if len(names) == 1:  # nothing to separate
        share = float(np.mean([label == names[0] for label in val_labels])) if len(val_labels) else float("nan")
        sure = np.ones((len(vectors), 1))
        return Probe([names[0]] * len(vectors), names, sure, 1.0, share, True, len(train_labels))
    rows = _affordable(train_labels, train_vectors.shape[1], len(names))
    labels = [train_labels[row] for row in rows]
    with threadpool_limits(1, "blas"):
        accuracy, strength, model = _choose_strength(train_vectors[rows], labels, val_vectors, val_labels, track)
        chances = model.predict_proba(vectors) if len(vectors) else np.zeros((0, len(names)))
    predicted = [names[column] for column in chances.argmax(axis=1)]
    converged = bool(model.n_iter_.max() < _MOST_STEPS)
    return Probe(predicted, names, np.asarray(chances, np.float64), strength, accuracy, converged, len(rows))


def _choose_strength(
    train_vectors: NDArray[np.floating],
    train_labels: Sequence[str],
    val_vectors: NDArray[np.floating],
    val_labels: Sequence[str],
    track: Track,
) -> tuple[float, float, Any]:
    """Validation accuracy (NaN without items), strength and model of the best fit; of equals the simplest."""
    strengths = PROBE_STRENGTHS if len(val_labels) else (1.0,)
    best: tuple[float, float, Any] | None = None
    for strength in track(strengths, "fitting a linear probe", len(strengths)):
        model = _fit_logistic(train_vectors, train_labels, strength)
        hits = model.predict(val_vectors) == np.asarray(val_labels, dtype=str) if len(val_labels) else [np.nan]
        accuracy = float(np.mean(hits))
        if best is None or accuracy > best[0]:
            best = (accuracy, strength, model)
    assert best is not None
    return best


def _affordable(labels: Sequence[str], dim: int, classes: int) -> NDArray[np.int64]:
    """The rows that a probe may learn from."""
    most = int(PROBE_WORK / (dim * classes))
    if classes > most:
        raise Unsupported(f"{classes} labels of {dim} dimensions are too many for a linear probe")
    return stratified_rows(labels, min(1.0, most / len(labels)))


def _fit_logistic(vectors: NDArray[np.floating], labels: Sequence[str], strength: float) -> Any:
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():  # a probe that stops at its last step is one all the same: `converged` says so
        warnings.simplefilter("ignore")
        model = LogisticRegression(C=strength, solver="lbfgs", max_iter=_MOST_STEPS, tol=1e-3)
        return model.fit(np.asarray(vectors, np.float32), np.asarray(labels, dtype=str))


def _check_training(vectors: NDArray[np.floating], labels: Sequence[str]) -> None:
    if not len(labels) or len(vectors) != len(labels):
        raise BadInput(f"{len(vectors)} training vectors and {len(labels)} labels; give at least one, one label each")
