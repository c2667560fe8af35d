"""Stage `report`: all evaluations as one page, and as tables for `dvc metrics` and `dvc plots`."""

from __future__ import annotations

from training.costs import measure
from training.stage import run_stage
from vitrine.report import build


def main() -> None:
    """`python -m training.report`."""
    with measure("report", "all"):
        page = build()
    print(page)


if __name__ == "__main__":
    run_stage(main)
