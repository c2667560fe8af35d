from __future__ import annotations

import dataclasses
import json
import typing
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitrine.errors import BadInput
from vitrine.events import KINDS, Event, from_payload, to_payload

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
objects = st.dictionaries(st.text(max_size=5), json_values, max_size=3)
by_type: dict[object, st.SearchStrategy] = {
    str: st.text(max_size=9),
    int: st.integers(1, 999),
    float: st.floats(0, 1),
    int | None: st.none() | st.integers(1, 999),
    Mapping[str, typing.Any]: objects,
    Mapping[str, typing.Any] | None: st.none() | objects,
    Mapping[str, str]: st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3),
    Mapping[str, float]: st.dictionaries(st.text(max_size=5), st.floats(allow_nan=False), max_size=3),
    tuple[Mapping[str, typing.Any], ...]: st.lists(objects, max_size=3).map(tuple),
}


def events_of(kind: type[Event]) -> st.SearchStrategy[Event]:
    hints = typing.get_type_hints(kind)
    return st.builds(kind, **{field.name: by_type[hints[field.name]] for field in dataclasses.fields(kind)})


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=20)
@given(data=st.data())
def test_every_kind_of_event_survives_json(kind: str, data: st.DataObject) -> None:
    event = data.draw(events_of(KINDS[kind]))
    common = {key: getattr(event, key) for key in ("model", "at", "actor", "why", "seq")}

    assert from_payload(kind, json.loads(json.dumps(to_payload(event))), **common) == event


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=5)
@given(data=st.data())
def test_every_kind_of_event_tells_its_model(kind: str, data: st.DataObject) -> None:
    event = dataclasses.replace(data.draw(events_of(KINDS[kind])), model="shop-search")

    assert "shop-search" in event.sentence()


def test_an_unknown_kind_asks_for_a_newer_release() -> None:
    with pytest.raises(BadInput, match="'Exploded' that this release does not know"):
        from_payload("Exploded", {}, model="m", at="", actor="")


@pytest.mark.parametrize("payload", [{}, {"version": 1, "colour": "red"}])
def test_an_event_with_other_fields_is_an_error_in_words(payload: dict) -> None:
    with pytest.raises(BadInput, match="Retired event that this release cannot read"):
        from_payload("Retired", payload, model="m", at="", actor="")
