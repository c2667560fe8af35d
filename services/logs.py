"""One JSON object a log line: what happened and its numbers, never an image or a vector."""

from __future__ import annotations

import json
import logging
import os
import sys

_STANDARD = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonLines(logging.Formatter):
    """time, level, message and the fields given in `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        fields = {key: value for key, value in vars(record).items() if key not in _STANDARD}
        line = {"at": round(record.created, 3), "level": record.levelname.lower(), "message": record.getMessage()}
        if record.exc_info:
            fields["error"] = self.formatException(record.exc_info)
        return json.dumps({**line, **fields}, default=str, ensure_ascii=False)


def configure() -> None:
    """Send the server's own log to standard error; VITRINE_LOG_LEVEL is info unless set."""
    logger = logging.getLogger("vitrine")
    if not logger.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(JsonLines())
        logger.addHandler(handler)
    logger.setLevel(os.environ.get("VITRINE_LOG_LEVEL", "info").upper())
    logger.propagate = False
