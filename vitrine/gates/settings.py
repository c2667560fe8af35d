"""Thresholds of the gates: `gates` in params.yaml, checked once."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vitrine.errors import BadInput
from vitrine.zoo import PERMISSIVE

_BELOW_ZERO = "must not be below 0"


@dataclass(frozen=True)
class GateSettings:
    """Thresholds, read from `gates` in params.yaml.

    Attributes:
        metrics: ranking metrics that must not get worse; the first one is the primary.
        datasets: further datasets, beside the catalogue, on which they must not get worse.
        margin: how much worse the lower end of the paired 95 % interval may be.
        superiority: whether the primary metric must also get better on the catalogue.
        category_margin: how much worse a single category may be.
        category_level: depth in the category tree, 1 for its top; 0 for the label.
        min_category_queries: categories with fewer queries are counted, not tested.
        family_error: chance of refusing a version none of whose categories is worse than the margin.
        tagging_margin: as `margin`, for the accuracy of the version's own classifier.
        floor: the least that the lower end of a first version's own interval may be.
        times_chance: that lower end must also reach this many times the score of random order.
        max_latency_ms: budget of one photo on the serving engine, 95th percentile; none without.
        min_photos_per_s: budget of batches on the serving engine; none without.
        min_cosine, min_overlap: parity of an fp32 engine with its reference.
        min_cosine_half: parity of an fp16 or bf16 engine; the overlap is only told.
        min_effective_rank, max_mean_cosine, max_duplicate_share: health of the embedding.
        min_ann_recall: share of the exact ten nearest that the Qdrant engine also finds.
        max_leaked: share of the queries that may have a photo of the training split, byte for byte.
        max_leaked_looks: share of the queries that may have one that looks like a training photo.
        licences: what weights and training data may be under, besides `licences` of params.yaml.
    """

    metrics: tuple[str, ...] = ("mmp@5",)
    datasets: tuple[str, ...] = ()
    margin: float = 0.01
    superiority: bool = False
    category_margin: float = 0.1
    category_level: int = 0
    min_category_queries: int = 10
    family_error: float = 0.05
    tagging_margin: float = 0.02
    floor: float = 0.0
    times_chance: float = 1.0
    max_latency_ms: float | None = None
    min_photos_per_s: float | None = None
    min_cosine: float = 0.9999
    min_overlap: float = 0.99
    min_cosine_half: float = 0.999
    min_effective_rank: float = 4.0
    max_mean_cosine: float = 0.98
    max_duplicate_share: float = 0.2
    min_ann_recall: float = 0.98
    max_leaked: float = 0.0
    max_leaked_looks: float = 0.1
    licences: tuple[str, ...] = (*PERMISSIVE, "unknown")

    def __post_init__(self) -> None:
        """Refuse what no gate can use."""
        for name in ("margin", "category_margin", "tagging_margin", "max_leaked", "max_leaked_looks"):
            if getattr(self, name) < 0:
                raise BadInput(f"gates.{name} is {getattr(self, name)}, it {_BELOW_ZERO}", field=f"gates.{name}")
        if not 0 < self.family_error < 1:
            raise BadInput(
                f"gates.family_error is {self.family_error}, it must lie between 0 and 1, such as 0.05",
                field="gates.family_error",
            )
        if not self.metrics:
            raise BadInput("gates.metrics is empty; name at least one metric, such as mmp@5")

    @staticmethod
    def read(raw: Mapping[str, Any] | None) -> GateSettings:
        """Settings from a mapping.

        Raises:
            BadInput: an unknown key or a value of the wrong kind.
        """
        if not isinstance(raw or {}, Mapping):
            raise BadInput(f"gates must be a mapping of settings, not {raw!r}; see gates in params.yaml")
        values = dict(raw or {})
        defaults = {item.name: item.default for item in dataclasses.fields(GateSettings)}
        unknown = sorted(set(values) - set(defaults))
        if unknown:
            raise BadInput(f"gates has unknown settings {', '.join(unknown)}; known are {', '.join(sorted(defaults))}")
        return GateSettings(**{name: _value(name, value, defaults[name]) for name, value in values.items()})

    @staticmethod
    def from_params(params: Mapping[str, Any]) -> GateSettings:
        """`gates` of params.yaml; what its `licences` allow for fetched weights is allowed here too.

        Raises:
            BadInput: as `read`.
        """
        settings = GateSettings.read(params.get("gates"))
        allowed = params.get("licences") or {}
        return dataclasses.replace(settings, licences=(*settings.licences, *(str(name) for name in allowed)))


def _value(name: str, value: Any, default: Any) -> Any:
    if isinstance(default, tuple):
        return _words(name, value)
    if isinstance(default, bool):
        if not isinstance(value, bool):
            raise BadInput(f"gates.{name} is {value!r}; it must be true or false", field=f"gates.{name}")
        return value
    if value is None and default is None:
        return None
    number = _number(name, value)
    if isinstance(default, int):
        if number != int(number) or number < 0:
            raise BadInput(f"gates.{name} is {value!r}; it must be a whole number from 0", field=f"gates.{name}")
        return int(number)
    return number


def _number(name: str, value: Any) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise BadInput(f"the gate setting {name} is no number: {value!r}; see docs/promotion.md", field=f"gates.{name}")
    return number


def _words(name: str, value: Any) -> tuple[str, ...]:
    words = (value,) if isinstance(value, str) else value
    if not isinstance(words, list | tuple) or not all(isinstance(word, str) for word in words):
        raise BadInput(f"gates.{name} is {value!r}; it must be a list of names", field=f"gates.{name}")
    return tuple(words)
