"""One JSON object a log line: what happened and its numbers, never an image, a vector or a secret."""

from __future__ import annotations

import json
import logging
import re
import sys

from services import tracing

LEVELS = ("debug", "info", "warning", "error")
LONGEST = 4000
_STANDARD = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_SECRET_NAME = r"[\w-]*(?:password|passwd|secret|token|api[_-]?key|signature)"  # noqa: S105 -- a pattern, no secret
_SECRETS = (
    (re.compile(r"(://[^/\s:@]*):[^/\s]*@"), r"\1:***@"),  # scheme://user:password@host
    (re.compile(rf"(?i)\b({_SECRET_NAME}[\"']?\s*[=:]\s*[\"']?)[^\s&,;\"']+"), r"\1***"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{6,}"), r"\1 ***"),
)


def masked(text: str) -> str:
    """`text` with the passwords of URLs, API keys, tokens and signatures replaced by `***`."""
    for pattern, instead in _SECRETS:
        text = pattern.sub(instead, text)
    return text


class JsonLines(logging.Formatter):
    """at, level, message, the trace where there is one, and the fields given in `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        """One line of at most a few kilobytes."""
        fields = {key: _field(key, value) for key, value in vars(record).items() if key not in _STANDARD}
        line = {
            "at": round(record.created, 3),
            "level": record.levelname.lower(),
            "message": _told(record.getMessage()),
        }
        if tracing.on() and (trace := tracing.trace_id()):
            line["trace"] = trace
        if record.exc_info:
            fields["error"] = _told(self.formatException(record.exc_info))
        return json.dumps({**line, **fields}, ensure_ascii=False)


def configure(level: str = "info") -> None:
    """Send the server's own log to standard error."""
    logger = logging.getLogger("vitrine")
    if not logger.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(JsonLines())
        logger.addHandler(handler)
    logger.setLevel(level.upper())
    logger.propagate = False


def _field(name: str, value: object) -> object:
    if isinstance(value, str) and value and re.fullmatch(f"(?i){_SECRET_NAME}", name):
        return "***"
    return _told(value)


def _told(value: object) -> object:
    """A value as a log may hold it: numbers as they are, texts masked and cut, anything else by its kind alone."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        return f"<{len(value)} bytes>"
    if isinstance(value, list | tuple) and len(value) <= 20:
        return [_told(part) for part in value]
    if isinstance(value, dict):
        return {str(key): _field(str(key), part) for key, part in value.items()}
    shape = getattr(value, "shape", None)
    if shape is not None:
        return f"<{type(value).__name__} {tuple(shape)}>"
    text = masked(str(value))
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}… ({len(text)} characters)"
