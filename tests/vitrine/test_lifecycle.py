from __future__ import annotations

import contextlib
from copy import deepcopy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitrine.errors import Conflict, NotFound
from vitrine.events import (
    AliasMoved,
    Evaluated,
    Event,
    Forgotten,
    Promoted,
    Registered,
    Retired,
    RolledBack,
    ShadowStarted,
    ShadowStopped,
)
from vitrine.lifecycle import Production, Shadow, State, advance, apply, check_promotion, fold
from vitrine.names import parse_ref

STAMP = {"at": "2026-01-01T00:00:00+00:00", "actor": "ann"}


def registered(version: int, model: str = "shop") -> Registered:
    return Registered(model=model, version=version, digest=f"{version:064x}", **STAMP)


def promoted(version: int, previous: int | None = None, model: str = "shop") -> Promoted:
    where = f"c--{model}--{version}"
    return Promoted(model=model, version=version, catalogue="c", collection=where, previous=previous, **STAMP)


def rolled_back(version: int, previous: int, model: str = "shop") -> RolledBack:
    where = f"c--{model}--{version}"
    return RolledBack(model=model, version=version, catalogue="c", collection=where, previous=previous, **STAMP)


numbers, models = st.integers(1, 4), st.sampled_from(["shop", "jobs"])
any_events = st.lists(
    st.one_of(
        st.builds(registered, numbers, models),
        st.builds(promoted, numbers, st.none(), models),
        st.builds(rolled_back, numbers, numbers, models),
        st.builds(lambda n, m: AliasMoved(model=m, alias="stable", version=n, **STAMP), numbers, models),
        st.builds(lambda n, m: Retired(model=m, version=n, **STAMP), numbers, models),
    ),
    max_size=25,
)


def accepted(events: list[Event]) -> tuple[State, list[Event]]:
    """Offer events one by one, as a registry does; those that contradict the state are turned away."""
    state, taken = State(), []
    for event in events:
        with contextlib.suppress(Conflict, NotFound):
            state = advance(state, [event])
            taken.append(event)
    return state, taken


@settings(max_examples=60)
@given(any_events)
def test_what_is_live_or_named_is_always_a_registered_version(events: list[Event]) -> None:
    state, _ = accepted(events)

    for model in state.models.values():
        assert {p.version for p in model.productions} | set(model.aliases.values()) <= set(model.versions)


@settings(max_examples=60)
@given(any_events)
def test_one_by_one_and_all_at_once_give_the_same_state(events: list[Event]) -> None:
    state, taken = accepted(events)

    assert fold(taken) == state == advance(State(), taken)


@settings(max_examples=60)
@given(any_events, any_events)
def test_a_state_never_changes_once_it_was_handed_out(before: list[Event], after: list[Event]) -> None:
    state, _ = accepted(before)
    copy = deepcopy(state)
    for event in after:
        with contextlib.suppress(Conflict, NotFound):
            advance(state, [event])

    assert state == copy


@settings(max_examples=60)
@given(any_events)
def test_a_refused_event_leaves_no_trace(events: list[Event]) -> None:
    state = State()
    for event in events:
        copy = deepcopy(state)
        try:
            apply(state, event)
        except (Conflict, NotFound):
            assert state == copy


@settings(max_examples=60)
@given(any_events, numbers)
def test_a_rollback_restores_what_was_live_before_the_promotion(events: list[Event], number: int) -> None:
    state, _ = accepted([registered(number), *events])
    before = state.models["shop"].production
    state = advance(state, [promoted(number)])
    if before is not None:
        after = advance(state, [rolled_back(before.version, number)])

        assert after.models["shop"].production == before


def test_rollbacks_go_back_one_promotion_after_the_other() -> None:
    steps = [registered(1), registered(2), registered(3), promoted(1), promoted(2, 1), promoted(3, 2)]
    state = fold([*steps, rolled_back(2, 3), rolled_back(1, 2)])

    assert state.models["shop"].production == Production(1, "c", "c--shop--1")


@pytest.mark.parametrize(
    ("events", "message"),
    [
        ([promoted(1), rolled_back(1, 1)], "no production before the present one"),
        (
            [promoted(1), promoted(2), rolled_back(2, 1)],
            "cannot go back from version 1 to 2: live is 2, before it was 1",
        ),
        ([registered(1)], "shop@1 exists already"),
    ],
)
def test_events_that_contradict_the_state_are_refused(events: list[Event], message: str) -> None:
    with pytest.raises(Conflict, match=message):
        fold([registered(1), registered(2), *events])


def test_an_event_about_an_unknown_version_lists_the_known_ones() -> None:
    with pytest.raises(NotFound, match="shop has no version 3, only: 1"):
        fold([registered(1), promoted(3)])


def test_a_promotion_that_replaces_something_else_by_now_is_refused() -> None:
    state = fold([registered(1), registered(2), promoted(2)])

    check_promotion(state, promoted(1, previous=2))
    with pytest.raises(Conflict, match="meant to replace version 1, but live is 2"):
        check_promotion(state, promoted(1, previous=1))


def test_a_version_that_was_retired_meanwhile_is_not_promoted() -> None:
    state = fold([registered(1), registered(2), promoted(1), Retired(model="shop", version=2, **STAMP)])

    with pytest.raises(Conflict, match="shop@2 is retired"):
        check_promotion(state, promoted(2, previous=1))


def test_a_version_that_was_retired_meanwhile_is_not_brought_back() -> None:
    history = [registered(1), registered(2), promoted(1), promoted(2)]
    back = RolledBack(model="shop", version=1, catalogue="homeware", collection="c1", previous=2, **STAMP)

    check_promotion(fold(history), back)
    with pytest.raises(Conflict, match="shop@1 is retired and is not brought back; promote another version"):
        check_promotion(fold([*history, Retired(model="shop", version=1, **STAMP)]), back)


def test_a_bare_name_means_what_is_live_and_before_that_the_newest() -> None:
    state = fold([registered(1), registered(3), registered(2)])
    assert state.resolve(parse_ref("shop")).number == 3

    assert advance(state, [promoted(1)]).resolve(parse_ref("shop")).number == 1


@pytest.mark.parametrize(
    ("ref", "message"),
    [
        ("jobs", "there is no model 'jobs'; known models: shop"),
        ("shop@9", "shop has no version 9, only: 1"),
        ("shop@stable", "shop has no alias 'stable', only: production"),
        ("shop@production", "shop has no production version yet; see: vitrine promote"),
    ],
)
def test_a_reference_to_nothing_lists_what_there_is(ref: str, message: str) -> None:
    with pytest.raises(NotFound, match=message):
        fold([registered(1)]).resolve(parse_ref(ref))


def test_a_candidate_is_tried_until_it_is_stopped_or_live() -> None:
    started = ShadowStarted(model="shop", version=2, catalogue="c", collection="c--shop--2", share=0.1, **STAMP)
    events = [registered(1), registered(2), promoted(1), started]

    tried = fold(events)
    stopped = fold([*events, ShadowStopped(model="shop", version=2, **STAMP)])
    live = fold([*events, promoted(2)])

    assert tried.model("shop").shadow == Shadow(Production(2, "c", "c--shop--2"), 0.1)
    assert stopped.model("shop").shadow is None
    assert live.model("shop").shadow is None


def test_results_that_were_renamed_by_an_erasure_are_known_by_their_new_digest() -> None:
    evaluated = Evaluated(
        model="shop", version=1, dataset="d", dataset_digest="x", protocol="default", via="exact", metrics={},
        queries=1, gallery=1, per_query="old", **STAMP,
    )  # fmt: skip
    first = Forgotten(model="shop", catalogue="d", results={"old": "new", "else": "z"}, **STAMP)
    second = Forgotten(model="shop", catalogue="d", results={"new": "newest"}, **STAMP)
    state = fold([registered(1), evaluated, first, second])

    assert [one.per_query for one in state.model("shop").versions[1].evaluations] == ["newest"]
    assert evaluated.per_query == "old"
