"""Splits without leakage: what shares a product or the bytes of a photo stays on one side.

Sides: `train` and `val` are learned from; `test` asks; `gallery` is searched only. A held-back product
with several photos is asked for by one of its items and found by the others.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from vitrine.datasets._sampling import stable_order
from vitrine.errors import BadInput
from vitrine.items import EvalProtocol, Item, Split

SplitBy = Literal["product", "item", "seller", "time", "column"]

_SEARCHED: tuple[Split, ...] = ("train", "val", "gallery")
Component = list[Item]


@dataclass(frozen=True)
class Cut:
    """How to split.

    Attributes:
        holdout: share of the items that is held back; 0 makes everything `test`, searched among itself.
        validation: share of the remaining items for the `val` split.
    """

    by: SplitBy
    holdout: float
    validation: float
    seed: int


@dataclass(frozen=True)
class Divided:
    """Items with their splits.

    Attributes:
        straddling: ids of items put into the gallery because their product or photo lies on both sides.
        untimed: ids of items without a time, where time decides.
    """

    items: tuple[Item, ...]
    protocols: tuple[EvalProtocol, ...]
    straddling: tuple[str, ...] = ()
    untimed: tuple[str, ...] = ()


def divide(items: Sequence[Item], cut: Cut) -> Divided:
    """Give every item its split, by content, names and the seed only.

    Raises:
        BadInput: what should decide is not there: a single seller, or one and the same time.
    """
    if cut.by == "column":
        return Divided(tuple(items), protocols_of(items))
    if cut.holdout == 0:
        tested = tuple(replace(item, split="test") for item in items)
        return Divided(tested, protocols_of(tested))
    components = connected(items, _photos if cut.by == "item" else _products_and_photos)
    back, rest, straddling = _sides(components, items, cut)
    splits: dict[str, Split] = {item.item_id: "gallery" for component in straddling for item in component}
    for component in back:
        splits |= _ask_and_find(component, cut.seed)
    # Another seed than the choice of the held-back side: the two are drawn independently.
    chosen = _choose(rest, cut.validation, cut.seed + 1, lambda _: True)
    for component in rest:
        split: Split = "val" if _key(component) in chosen else "train"
        splits |= {item.item_id: split for item in component}
    divided = tuple(replace(item, split=splits[item.item_id]) for item in items)
    return Divided(
        divided,
        protocols_of(divided),
        tuple(sorted(item.item_id for component in straddling for item in component)),
        tuple(sorted(item.item_id for item in items if cut.by == "time" and item.time is None)),
    )


def protocols_of(items: Sequence[Item]) -> tuple[EvalProtocol, ...]:
    """What can be asked: by label always, by product where one is on both sides, by title where there are any."""
    present = {item.split for item in items}
    gallery: tuple[Split, ...] = tuple(split for split in _SEARCHED if split in present) or ("test",)
    found = [EvalProtocol("default", ("test",), gallery)]
    asked = [item for item in items if item.split == "test"]
    holders: dict[str, set[str]] = defaultdict(set)
    for item in items:
        if item.split in gallery and item.product_id is not None:
            holders[item.product_id].add(item.item_id)
    if any(holders.get(item.product_id or "", set()) - {item.item_id} for item in asked):
        found.append(EvalProtocol("product", ("test",), gallery, relevance="product_id"))
    if any(item.title for item in asked):
        found.append(EvalProtocol("text", ("test",), gallery, ask_by="title"))
    return tuple(found)


def connected(items: Sequence[Item], keys: Callable[[Item], Iterable[Hashable]]) -> list[Component]:
    """Groups of items that share a key, directly or through others; in order of their smallest item id."""
    parent: dict[Hashable, Hashable] = {}

    def root(node: Hashable) -> Hashable:
        while parent.setdefault(node, node) != node:
            parent[node] = parent[parent[node]]  # halving keeps the paths short
            node = parent[node]
        return node

    ordered = sorted(items, key=lambda item: item.item_id)
    for item in ordered:
        for key in keys(item):
            parent[root(key)] = root(("item", item.item_id))
    groups: dict[Hashable, Component] = defaultdict(list)
    for item in ordered:
        groups[root(("item", item.item_id))].append(item)
    return list(groups.values())


def _photos(item: Item) -> Iterable[Hashable]:
    return (("photo", image) for image in item.images)


def _products_and_photos(item: Item) -> Iterable[Hashable]:
    yield from _photos(item)
    if item.product_id is not None:
        yield ("product", item.product_id)


def _sides(
    components: Sequence[Component], items: Sequence[Item], cut: Cut
) -> tuple[list[Component], list[Component], list[Component]]:
    """Components held back, left for training, and lying on both sides."""
    if cut.by in ("product", "item"):
        chosen = _choose(components, cut.holdout, cut.seed, _finds_itself)
        held = {item.item_id for component in components if _key(component) in chosen for item in component}
    elif cut.by == "seller":
        held = _of_held_sellers(items, cut)
    else:
        held = _newest(items, cut)
    back: list[Component] = []
    rest: list[Component] = []
    straddling: list[Component] = []
    for component in components:
        inside = sum(item.item_id in held for item in component)
        side = rest if inside == 0 else back if inside == len(component) else straddling
        side.append(component)
    return back, rest, straddling


def _of_held_sellers(items: Sequence[Item], cut: Cut) -> set[str]:
    """Items of sellers held back as wholes, about the wanted share of the items; one seller stays at least."""
    owned: dict[str, list[str]] = defaultdict(list)
    for item in items:
        if item.seller is not None:
            owned[item.seller].append(item.item_id)
    if len(owned) < 2:
        raise BadInput(
            f"split=seller needs two sellers at least, the table has {len(owned)}; name their column with "
            "-o seller=COLUMN, or take split=product",
            field="split",
        )
    wanted = cut.holdout * sum(map(len, owned.values()))
    held: set[str] = set()
    for seller in sorted(owned, key=lambda seller: stable_order(seller, cut.seed))[:-1]:
        if held and len(held) + len(owned[seller]) / 2 > wanted:
            continue
        held.update(owned[seller])
    return held


def _newest(items: Sequence[Item], cut: Cut) -> set[str]:
    """Items at or after the moment that leaves the wanted share; items without a time stay behind."""
    times = sorted(item.time for item in items if item.time is not None)
    if not times or times[0] == times[-1]:
        raise BadInput(
            "split=time needs items of different times, and there are none; name their column with "
            "-o time=COLUMN, or take split=product",
            field="split",
        )
    cutoff = times[min(len(times) - 1, int(len(times) * (1 - cut.holdout)))]
    if cutoff == times[0]:
        cutoff = next(time for time in times if time > cutoff)
    return {item.item_id for item in items if item.time is not None and item.time >= cutoff}


def _choose(components: Sequence[Component], share: float, seed: int, alone: Callable[[Component], bool]) -> set[str]:
    """Keys of components with about `share` of the items, class by class; one component of a class stays.

    What one class could not give because its components are too large is taken from the next one.
    Components that are a class of their own are drawn from one pot, as far as `alone` allows.
    """
    classes: dict[str, list[Component]] = defaultdict(list)
    for component in components:
        classes[component[0].label].append(component)
    pots = [members for _, members in sorted(classes.items()) if len(members) > 1]
    pots.append([members[0] for _, members in sorted(classes.items()) if len(members) == 1 and alone(members[0])])
    chosen: set[str] = set()
    left = 0.0
    for pot in pots:
        left += share * sum(map(len, pot))
        for component in sorted(pot, key=lambda component: stable_order(_key(component), seed))[:-1]:
            if len(component) <= round(left):
                chosen.add(_key(component))
                left -= len(component)
    return chosen


def _finds_itself(component: Component) -> bool:
    """Whether one item of it can be asked for and another, with another photo, be found."""
    return len(connected(component, _photos)) > 1


def _ask_and_find(component: Component, seed: int) -> Mapping[str, Split]:
    """One query for every held-back product that has other photos to be found by; copies stay together."""
    groups = sorted(connected(component, _photos), key=lambda group: stable_order(_key(group), seed))
    count: dict[str | None, int] = defaultdict(int)
    for group in groups:
        for product in {item.product_id for item in group}:
            count[product] += 1
    asked: set[str | None] = set()
    splits: dict[str, Split] = {}
    for group in groups:
        products = {item.product_id for item in group} - {None}
        # Without another photo there is nothing to keep back, so the item may as well ask.
        queries = not products & asked or all(count[product] == 1 for product in products)
        asked |= products
        splits |= {item.item_id: "test" if queries else "gallery" for item in group}
    return splits


def _key(component: Component) -> str:
    return component[0].item_id


def unanswerable(divided: Divided) -> Mapping[str, str]:
    """Item id -> label of queries whose label nothing else in the default gallery has."""
    default = divided.protocols[0]
    holders: dict[str, set[str]] = defaultdict(set)
    for item in divided.items:
        if item.split in default.gallery:
            holders[item.label].add(item.item_id)
    asked = [item for item in divided.items if item.split in default.query]
    return {item.item_id: item.label for item in asked if not holders[item.label] - {item.item_id}}
