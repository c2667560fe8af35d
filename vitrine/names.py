"""Names and references: parse and format, nothing else.

`homeware-search`             a model name
`homeware-search@7`           one version, immutable
`homeware-search@production`  whatever the alias points at now
`shop--homeware-search--7`    a collection: catalogue `shop` embedded by exactly that version
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from vitrine.errors import BadInput

PRODUCTION = "production"

_NAME = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_DIGITS = re.compile(r"[0-9]+")
_MAX_NAME = 48
_MAX_DIGITS = 9


def check_name(name: str, what: str = "name") -> str:
    """Return `name` if it is well formed: lower-case words joined by single hyphens, 48 at most.

    Raises:
        BadInput: it is not.

    >>> check_name("homeware-search")
    'homeware-search'
    """
    if len(name) > _MAX_NAME or not _NAME.fullmatch(name):
        raise BadInput(
            f"{name!r} is no {what}: use lower-case letters and digits in words joined by single "
            f"hyphens, {_MAX_NAME} characters at most, such as 'homeware-search'",
            field=what,
        )
    return name


@dataclass(frozen=True)
class Ref:
    """`name`, `name@7` or `name@alias`; at most one of `version` and `alias` is set."""

    name: str
    version: int | None = None
    alias: str | None = None

    def __str__(self) -> str:
        if self.version is not None:
            return f"{self.name}@{self.version}"
        return f"{self.name}@{self.alias}" if self.alias else self.name


def parse_ref(text: str) -> Ref:
    """Read a reference.

    Raises:
        BadInput: the text is no reference.

    >>> parse_ref("homeware-search@7")
    Ref(name='homeware-search', version=7, alias=None)
    """
    name, at, selector = text.partition("@")
    check_name(name, "model name")
    if not at:
        return Ref(name)
    if not _DIGITS.fullmatch(selector):
        return Ref(name, alias=check_name(selector, "alias"))
    if len(selector) > _MAX_DIGITS or int(selector) < 1:
        raise BadInput(f"{text!r} names no version: versions are 1, 2, 3, ..., such as '{name}@7'", field="version")
    return Ref(name, version=int(selector))


def check_alias(alias: str) -> str:
    """Return `alias` if a user may move it: a well-formed name, not `production`, not a number.

    Raises:
        BadInput: it is not.
    """
    if alias == PRODUCTION:
        raise BadInput(
            f"{PRODUCTION!r} is moved by promotion and rollback alone; see: vitrine promote, vitrine rollback",
            field="alias",
        )
    if _DIGITS.fullmatch(alias):
        raise BadInput(
            f"the alias {alias!r} would read as a version number; use a word such as 'stable'", field="alias"
        )
    return check_name(alias, "alias")


def collection_name(catalogue: str, model: str, version: int) -> str:
    """The one name of catalogue `catalogue` embedded by `model@version`.

    >>> collection_name("shop", "homeware-search", 7)
    'shop--homeware-search--7'
    """
    return f"{check_name(catalogue, 'catalogue')}--{check_name(model, 'model name')}--{version}"
