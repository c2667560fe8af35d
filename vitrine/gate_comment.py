"""A planned promotion as Markdown, short enough for a comment on a pull request."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

MARKER = "<!-- vitrine-gates -->"
"""First line of every comment, so that a later run finds and replaces it."""

_MARKS = {"passed": "✅", "failed": "❌", "overridden": "⚠️", "not applicable": "⚪"}
_LONGEST = 600
"""Characters of a reason; the report has all of it."""


def render(plan: Mapping[str, Any], link: str = "") -> str:
    """The comment of a plan, as `Plan.as_json` gives it.

    Args:
        plan: the plan as JSON.
        link: of the report, shown at the end.
    """
    ref, refused = f"{plan['model']}@{plan['version']}", plan["refused"]
    rival = (plan.get("incumbent") or {}).get("version")
    against = f"against {plan['model']}@{rival}, which is live" if rival else "as the first version"
    head = "may go live" if not refused else f"is refused by {len(refused)} gate{'s' if len(refused) > 1 else ''}"
    parts = [MARKER, f"### {_text(ref)} {head}", "", f"On {_text(plan.get('catalogue', ''))}, {_text(against)}.", ""]
    parts += ["| | gate | why |", "|---|---|---|", *map(_row, plan["verdicts"]), ""]
    parts += _compared(plan["verdicts"])
    parts += [_work(plan), *([f"[Report with pictures]({link})"] if link else [])]
    return "\n".join(parts).rstrip() + "\n"


def _row(verdict: Mapping[str, Any]) -> str:
    reason = _text(verdict["reason"][:_LONGEST] + ("…" if len(verdict["reason"]) > _LONGEST else ""))
    if verdict.get("override"):
        reason += f"<br>**override:** {_text(verdict['override'])}"
    return f"| {_MARKS[verdict['outcome']]} {verdict['outcome']} | {_text(verdict['gate'])} | {reason} |"


def _compared(verdicts: Sequence[Mapping[str, Any]]) -> list[str]:
    """The paired differences, metric by metric."""
    found = [one for verdict in verdicts for one in verdict["numbers"].get("compared", ()) if one.get("ci95")]
    if not found:
        return []
    rows = [
        f"| {_text(one['dataset'])} | {_text(one['metric'])} | {_number(one['difference'])} | "
        f"{_number(one['ci95'][0])} to {_number(one['ci95'][1])} | {_number(-one['margin'])} |"
        for one in found
    ]
    head = ["| dataset | metric | difference | 95 % interval | margin |", "|---|---|---|---|---|"]
    return ["<details><summary>Differences</summary>", "", *head, *rows, "", "</details>", ""]


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:+.4f}"


def _work(plan: Mapping[str, Any]) -> str:
    return f"{plan.get('items', 0):,} items to make searchable, about {plan.get('seconds', 0):.0f} s."


def _text(words: object) -> str:
    """Words as a table's cell: nothing in them is Markdown, HTML or a mention of anybody."""
    line = " ".join(str(words).split())
    escaped = re.sub(r"([\\`*_\[\]|~])", r"\\\1", line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"))
    return re.sub(r"@(?=[A-Za-z])", "@\u200b", escaped)  # `@name` would call somebody of that name
