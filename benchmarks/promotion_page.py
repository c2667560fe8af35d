"""What the promotion soak prints, and whether it kept what is promised."""

from __future__ import annotations

import os
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from benchmarks.exact_answers import Answer, Truth
from benchmarks.promotion_load import WINDOW_S, Course, K, Result, Seen, p99
from vitrine.bench.latencies import Latencies, summarise

FOLLOW_S = 2.0
"""Servers follow a switch within so many seconds."""


class Page:
    """The figures of one run.

    Args:
        course: what was asked for.
        result: what the load saw.
        truths: what each version must answer.
        standby: "on" where the version before stayed loaded.
    """

    def __init__(self, course: Course, result: Result, truths: Mapping[int, Truth], *, standby: str) -> None:
        self._course, self._result, self._standby = course, result, standby
        self.answers = [*result.quiet.answers, *result.switching.answers, *result.building.answers]
        fine = [answer for answer in self.answers if answer.status == "OK"]
        self.failed = Counter(answer.status for answer in self.answers if answer.status != "OK")
        self.faults = Counter(fault for answer in fine if (fault := _fault(answer, truths)))
        self.by_version = Counter(answer.version for answer in fine)
        self.near, self.far = _by_switch(result.switching)
        self.ratio = p99(self.near) / p99(result.quiet.answers)
        self.followed = sorted(_follow_s(result.switching))

    def broken(self, max_ratio: float) -> list[str]:
        """Promises that did not hold; times are judged only where `max_ratio` is not 0.

        Args:
            max_ratio: the most that p99 near a switch may be of quiet p99.
        """
        switched, wanted = len(self._result.switching.switched), self._course.switches
        held = {
            f"{switched} of {wanted} switches": switched == wanted,
            f"{sum(self.failed.values())} failed searches": not self.failed,
            f"{sum(self.faults.values())} wrong answers": not self.faults,
            f"only version {', '.join(map(str, self.by_version))} answered": len(self.by_version) == 2,
        }
        if max_ratio:
            held[f"p99 near a switch is {self.ratio:.2f} times quiet p99"] = self.ratio <= max_ratio
            held[f"a switch was followed after {self.followed[-1]:.2f} s"] = self.followed[-1] <= FOLLOW_S
        return [promise for promise, kept in held.items() if not kept]

    def text(self) -> str:
        """The page, as Markdown."""
        course, result = self._course, self._result
        table = [f"| {name} | {value} |" for name, value in self._rows().items()]
        where = (
            f"{platform.machine()}, {os.cpu_count()} cores, server and load on cores of their own where there are two; "
            f"{datetime.now(tz=UTC):%Y-%m-%d}."
        )
        what = (
            f"{course.model}@{course.versions[0]} and @{course.versions[1]} on {course.catalogue}; one photo a search, "
            f"{K} hits; saturation {result.saturation:.0f} searches/s, load {result.rate:.0f}/s, open loop: a latency "
            "begins when its search was due. Collections are built beforehand; each answer is compared with the exact "
            "result, computed from the collection's files, of the version that it names."
        )
        head = ("# Promotions and rollbacks under load\n", "`make soak-promotion`\n", where, f"{what}\n")
        return "\n".join((*head, "| | |\n|---|---|", *table))

    def _rows(self) -> dict[str, object]:
        result = self._result
        shares = ", ".join(f"{version}: {count}" for version, count in sorted(self.by_version.items()))
        late_s = max(result.quiet.late_s, result.switching.late_s, result.building.late_s)
        return {
            "the version before stays loaded": "yes" if self._standby == "on" else "no, each switch loads",
            "promotions and rollbacks": len(result.switching.switched),
            "searches": len(self.answers),
            "answered by version": shares,
            "failed searches": dict(self.failed) or 0,
            "answers other than the exact result (ties within 1e-5)": dict(self.faults) or 0,
            "quiet": _told(result.quiet.answers),
            f"within {WINDOW_S:.0f} s of a switch": _told(self.near),
            "later than that": _told(self.far),
            "p99 near a switch / quiet p99": f"{self.ratio:.2f}",
            "from a switch written to its first answer": f"median {self.followed[len(self.followed) // 2]:.2f} s, "
            f"worst {self.followed[-1]:.2f} s",
            f"during a full build ({result.build_s:.0f} s, one thread, nice 19)": _told(result.building.answers),
            "load generator late, at worst": f"{1000 * late_s:.0f} ms",
        }


def _fault(answer: Answer, truths: Mapping[int, Truth]) -> str:
    truth = truths.get(answer.version)
    return truth.fault(answer) if truth else f"it names version {answer.version}"


def _by_switch(seen: Seen) -> tuple[list[Answer], list[Answer]]:
    """Answers to requests due within `WINDOW_S` after a switch, and the others."""
    near, far = list[Answer](), list[Answer]()
    for answer in seen.answers:
        (near if any(0 <= answer.due - at < WINDOW_S for at, _ in seen.switched) else far).append(answer)
    return near, far


def _follow_s(seen: Seen) -> list[float]:
    """Seconds from each switch to the end of the first answer that names its version."""
    found = []
    for at, version in seen.switched:
        ends = [a.due + a.seconds for a in seen.answers if a.version == version and a.due + a.seconds >= at]
        found.append(min(ends, default=float("inf")) - at)
    return found


def _told(answers: Sequence[Answer]) -> str:
    found: Latencies = summarise([answer.seconds for answer in answers])
    return f"p50 {found.p50:.1f}, p99 {found.p99:.1f}, worst {found.worst:.0f} ms; {found.count} searches"
