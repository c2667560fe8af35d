"""One installation after another crash: `python -m tests.crash.lane FOLDER --kills 15 --seed 0` prints a JSON line a kill.

A round: a command of the installation's life is started and killed, at a named moment or at a random one; what must hold
is looked at; the same command is repeated and must finish; what must hold is looked at again, and a server is asked.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from random import Random

from tests.crash import warm
from tests.crash.invariants import broken, half_written, unanswered
from tests.crash.operations import OPERATIONS, Operation, promotion
from tests.crash.shop import MODEL, Shop, copied, make_photos
from vitrine.files import JUST_MADE_S

_TIDY_EVERY = 10
_LATEST = 0.95  # of a command's usual time, so that it is rarely over before


@dataclass(frozen=True)
class Kill:
    """One kill and what came of it.

    Attributes:
        at: the named moment, or after how many seconds.
        seconds: of the whole round.
        problems: whatever did not hold.
    """

    operation: str
    at: str
    seconds: float
    problems: Sequence[str]


class Lane:
    """A shop that lives through kills, one after the other."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self._usual: dict[str, float] = {}

    def life(self, kills: int) -> Iterator[Kill]:
        """So many kills of random commands; each kind of command comes before any comes twice more often."""
        done, waiting = 0, list[str]()
        while done < kills:
            waiting = waiting or self.shop.random.sample(list(OPERATIONS), len(OPERATIONS))
            kill = self.round(waiting.pop())
            if kill is not None:
                done += 1
                yield self._tidied(kill) if done % _TIDY_EVERY == 0 or done == kills else kill

    def round(self, name: str, point: str = "") -> Kill | None:
        """Kill a command, at that point or wherever chance wills; None where it was over before, or had nothing to do."""
        began, operation = time.monotonic(), OPERATIONS[name](self.shop)
        if operation is None:
            return None
        at, ended = self._kill(operation, point)
        if ended.killed:
            problems = [*self._broken(operation), *self._repeated(operation)]
        else:
            problems = [f"it ends with {ended.code}: {ended.said[-2000:]}"] if ended.code else []
        problems += [*self._finished(operation), *self._ask(unanswered)]
        if problems or ended.killed:
            return Kill(name, at, time.monotonic() - began, problems)
        return None

    def tidy(self) -> list[str]:
        """Both clean-ups, and what they left; a draft made a moment ago might be somebody's."""
        time.sleep(JUST_MADE_S)
        for command in (("index", "gc", "--older-than", "0"), ("models", "gc", "--yes", "--older-than", "0")):
            self._run(warm.command(*command))
        return half_written(self.shop)

    def _tidied(self, kill: Kill) -> Kill:
        return Kill(kill.operation, kill.at, kill.seconds, [*kill.problems, *self.tidy()])

    def _kill(self, operation: Operation, point: str) -> tuple[str, warm.Ended]:
        random = self.shop.random
        by_name = bool(point) or (bool(operation.points) and random.random() < 0.5)
        if by_name:
            at = point or f"{random.choice(operation.points)}:{random.choice((1, 1, 2))}"
            ended = self._run(operation.work, crash_at=at)
        else:
            after = random.uniform(0, _LATEST) * self._usual.get(operation.name, 1.0)
            at = f"{after:.3f} s"
            ended = warm.run(operation.work, self.shop.root, self.shop.environment, kill_after=after)
        if ended.code == 0:
            self._usual[operation.name] = ended.seconds
        return at, ended

    def _repeated(self, operation: Operation) -> list[str]:
        """The same command again; it may say that there is nothing, where all was done already."""
        before = operation.left_to_do() if operation.codes != (0,) else ""
        ended = self._run(operation.work)
        self._usual[operation.name] = ended.seconds
        allowed = (0,) if before else operation.codes
        return [] if ended.code in allowed else [f"repeated, it ends with {ended.code}: {ended.said[-2000:]}"]

    def _broken(self, operation: Operation) -> list[str]:
        live = self.shop.model.production
        strange = [] if live in operation.productions else [f"{live} is live, {operation.productions} may be"]
        return strange + self._ask(broken)

    def _finished(self, operation: Operation) -> list[str]:
        left = operation.left_to_do()
        return [*([f"it is not done: {left}"] if left else []), *self._broken(operation)]

    def _ask(self, question: object) -> list[str]:
        return warm.ask(partial(question, self.shop), self.shop.root, self.shop.environment)  # type: ignore[call-overload]

    def _run(self, work: object, crash_at: str = "") -> warm.Ended:
        crash = {"VITRINE_CRASH_AT": crash_at} if crash_at else {}
        return warm.run(work, self.shop.root, {**self.shop.environment, **crash})  # type: ignore[arg-type]


def make_template(root: Path) -> None:
    """An installation with three versions, two of them measured, one live, and somebody's export beside it."""
    make_photos(root)
    shop = Shop(root, Random(0))

    def vitrine(*arguments: str) -> None:
        ended = warm.run(warm.command(*arguments), root, shop.environment)
        if ended.code:
            sys.exit(f"vitrine {' '.join(arguments)} ended with {ended.code}: {ended.said}")

    vitrine("data", "import", "image-folder", "photos", "--name", "shop")
    for name in (MODEL, MODEL, MODEL, "elsewhere"):
        vitrine("models", "register", shop.bundle(), "--name", name)
    for ref in (f"{MODEL}@1", f"{MODEL}@2", "elsewhere@1"):
        vitrine("evaluate", ref, "--dataset", "shop", "--via", "exact")
    vitrine("models", "export", "elsewhere@1", "foreign.tar", "--history")
    vitrine(*promotion(1))
    vitrine(*promotion(2))


def main() -> None:
    """Exit code 1 where something did not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="scratch; a template/ in it is used, or made")
    parser.add_argument("--kills", type=int, default=15)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    warm.warm_up()
    template = options.folder / "template"
    if not template.is_dir():
        template.mkdir(parents=True)
        make_template(template)
    lane = Lane(copied(template, options.folder / f"lane-{options.seed}", options.seed))
    bad = 0
    for kill in lane.life(options.kills):
        bad += bool(kill.problems)
        print(json.dumps(asdict(kill)), flush=True)
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
