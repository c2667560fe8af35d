"""Stage `report`: all evaluations as one page, and as tables for `dvc metrics` and `dvc plots`."""

from __future__ import annotations

from training.stage import run_stage
from vitrine.report import build


def main() -> None:
    """`python -m training.report`."""
    print(build())


if __name__ == "__main__":
    run_stage(main)
