"""The backbone as it is: its own features, normalised in the exported graph. Nothing is trained."""

from __future__ import annotations

from training.tuning import Task, Tuned


def tune(task: Task) -> Tuned:
    """No head and no classifier."""
    del task
    return Tuned()
