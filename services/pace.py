"""How quickly a model gets through batches, measured while it does."""

from __future__ import annotations

import math

_SMOOTHING = 0.2  # share of the newest batch in the running means
_MOSTLY = 0.5
_WORTH_A_WAIT = 1 / 8  # of the time that a batch will take


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

    def patience_s(self, inputs: int, usual_s: float) -> float:
        """How long a batch of so many may wait for company: as usual, or longer if that is little beside what it takes."""
        return max(usual_s, _WORTH_A_WAIT * self.expected_s(inputs)) if usual_s else 0.0

    def inputs_in(self, seconds: float) -> int:
        """How many the model gets through in that time; as many as a batch holds before the first one was measured."""
        return int(seconds / self.input_s) if self.input_s else self._max_batch


class Returning:
    """Callers that were just answered and will ask again at once, if that is what callers do: learned from them.

    In a closed loop those of the last batch come back while those of the next one wait. Going without them would
    make two groups that take turns for ever, each in batches of half the size.
    """

    def __init__(self) -> None:
        self._share = 0.0  # of the answered, running mean: so many came back in time
        self._answered = self._came = 0
        self._until = 0.0

    def answered(self, inputs: int, now: float, within_s: float) -> None:
        """These were answered; who comes within that time, counts as come back."""
        if self._answered:
            self._share += _SMOOTHING * (min(1.0, self._came / self._answered) - self._share)
        self._answered, self._came, self._until = inputs, 0, now + within_s

    def came(self, inputs: int, now: float) -> None:
        """These are new."""
        if now < self._until:
            self._came += inputs

    def expected(self, now: float) -> int:
        """How many are still to come; 0 where callers take their time, or these have."""
        return max(0, self._answered - self._came) if now < self._until and self._share > _MOSTLY else 0
