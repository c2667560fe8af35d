"""Rows of payloads as columns: which of them meet a filter, which belong to one product. Made when first asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitrine.indexes._checks import FieldType
from vitrine.ports import Condition


class Rows:
    """N items in a fixed order. Safe for several threads: a column made twice is the same column."""

    def __init__(self, item_ids: Sequence[str], payloads: Sequence[Mapping[str, Any]]) -> None:
        self.item_ids = item_ids
        self.payloads = payloads
        self._numbers: dict[str, NDArray[np.float64]] = {}
        self._values: dict[str, dict[str, NDArray[np.int64]]] = {}

    def __len__(self) -> int:
        return len(self.item_ids)

    def meet(self, condition: Condition, kind: FieldType) -> NDArray[np.bool_]:
        """Which rows meet a condition, as bool (N,)."""
        if kind == "number":
            values = self._number_column(condition.field)
            low = -np.inf if condition.low is None else condition.low
            high = np.inf if condition.high is None else condition.high
            inside: NDArray[np.bool_] = (values >= low) & (values <= high)  # a missing number is NaN: never inside
            return inside
        met = np.zeros(len(self), np.bool_)
        rows_by_value = self._value_column(condition.field)
        for value in condition.any_of:
            met[rows_by_value.get(value, [])] = True
        return met

    def product_codes(self, known: Mapping[str, int], first_row: int = 0) -> tuple[NDArray[np.int64], dict[str, int]]:
        """One number a row, equal for items of one product, and the numbers of products that are not in `known`.

        An item without a product has a number of its own below zero, made of its row counted from `first_row`.
        """
        new: dict[str, int] = {}
        codes = np.empty(len(self), np.int64)
        for row, payload in enumerate(self.payloads):
            product = payload.get("product_id")
            if not product:
                codes[row] = -(first_row + row + 1)
            elif product in known:
                codes[row] = known[product]
            else:
                codes[row] = new.setdefault(product, len(known) + len(new))
        return codes, new

    def _number_column(self, field: str) -> NDArray[np.float64]:
        if field not in self._numbers:
            held = (payload.get(field) for payload in self.payloads)
            values = [value if isinstance(value, int | float) else np.nan for value in held]
            self._numbers[field] = np.array(values, np.float64)
        return self._numbers[field]

    def _value_column(self, field: str) -> dict[str, NDArray[np.int64]]:
        if field not in self._values:
            held = (payload.get(field, []) for payload in self.payloads)
            self._values[field] = _grouped(value if isinstance(value, list) else [value] for value in held)
        return self._values[field]


def _grouped(values_of_rows: Iterable[Sequence[str]]) -> dict[str, NDArray[np.int64]]:
    """Value -> rising rows that hold it."""
    rows: dict[str, list[int]] = {}
    for row, values in enumerate(values_of_rows):
        for value in values:
            rows.setdefault(value, []).append(row)
    return {value: np.array(found, np.int64) for value, found in rows.items()}
