"""How quickly a model gets through batches, measured while it does."""

from __future__ import annotations

import math

_SMOOTHING = 0.2  # share of the newest batch in the running means


class Pace:
    """Running means of what batches take, to say how long a number of inputs would."""

    def __init__(self, max_batch: int) -> None:
        self._max_batch = max_batch
        self._seconds = self._inputs = 0.0

    def measured(self, inputs: int, seconds: float) -> None:
        """A batch of `inputs` took `seconds`."""
        weight = _SMOOTHING if self._inputs else 1.0
        self._seconds += weight * (seconds - self._seconds)
        self._inputs += weight * (inputs - self._inputs)

    @property
    def input_s(self) -> float:
        """Seconds an input; 0 before the first batch."""
        return self._seconds / self._inputs if self._inputs else 0.0

    def expected_s(self, inputs: int) -> float:
        """Seconds in which the model gets through `inputs`: rather too few than too many; 0 before the first batch."""
        return min(inputs * self.input_s, math.ceil(inputs / self._max_batch) * self._seconds)
