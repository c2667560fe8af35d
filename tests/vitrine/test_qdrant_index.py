"""What the index does at a Qdrant server beyond the contract: names, resumed and renewed uploads, aliases."""

import pytest

from tests.edge_client import EdgeClient
from tests.indexed import COUNT, delete, found, make, queries, upsert
from vitrine.errors import BadInput, Conflict, NotFound
from vitrine.indexes import qdrant
from vitrine.indexes._qdrant_client import connect
from vitrine.indexes._qdrant_points import point_id

pytestmark = pytest.mark.filterwarnings("ignore:Local mode performs exact")


@pytest.fixture(params=["local", "engine"])
def options(request):
    return {"location": ":memory:"} if request.param == "local" else {"client": EdgeClient()}


class Recording(EdgeClient):
    """Remembers the points that were sent."""

    def __init__(self):
        super().__init__()
        self.sent = []

    def upsert(self, name, points, update_filter=None, wait=True):
        self.sent += [point.id for point in points]
        super().upsert(name, points, update_filter, wait)


def test_a_collection_of_other_content_is_refused(options, tmp_path):
    mine, theirs = make(tmp_path / "a", name="same--m--1"), make(tmp_path / "b", name="same--m--1", digest="d2")
    qdrant.build(theirs, options)
    with pytest.raises(Conflict, match="was embedded by version content d2"):
        qdrant.open(mine, options)
    with pytest.raises(Conflict, match="delete that collection"):
        qdrant.build(mine, options)
    qdrant.drop(mine, options)


def test_the_vector_is_called_after_the_version(options, tmp_path):
    collection = make(tmp_path / "a", version=12)
    qdrant.build(collection, options)
    assert list(connect(options).get_collection(collection.info.name).config.params.vectors) == ["v12"]
    qdrant.drop(collection, options)


def test_what_was_never_built_is_not_found(options, tmp_path):
    with pytest.raises(NotFound, match=r"vitrine promote .* --index qdrant"):
        qdrant.open(make(tmp_path / "a"), options)


def test_without_an_address_it_is_bad_input(tmp_path):
    with pytest.raises(BadInput, match="set QDRANT_URL"):
        qdrant.build(make(tmp_path / "a"), {})


def test_an_upload_that_was_cut_off_is_not_opened_and_is_finished_with_what_is_missing(tmp_path):
    collection, client = make(tmp_path / "a"), Recording()
    options = {"client": client}
    qdrant.build(collection, options)
    lost = [point_id(f"i{row:04d}") for row in (3, 4, 5)]
    client.delete(collection.info.name, lost)
    with pytest.raises(NotFound, match=f"has {COUNT - 3} of {COUNT} items; finish it"):
        qdrant.open(collection, options)
    client.sent.clear()
    qdrant.build(collection, options)
    assert sorted(client.sent) == sorted(lost)
    assert qdrant.open(collection, options).count() == COUNT


def test_a_killed_upload_leaves_a_collection_that_is_not_opened(tmp_path):
    class Dying(EdgeClient):
        def update_collection(self, name, metadata=None, **_):
            raise KeyboardInterrupt

    collection, client = make(tmp_path / "a"), Dying()
    with pytest.raises(KeyboardInterrupt):
        qdrant.build(collection, {"client": client})
    with pytest.raises(NotFound, match="finish it"):
        qdrant.open(collection, {"client": client})


def test_building_again_takes_no_change_back(options, tmp_path):
    collection = make(tmp_path / "a")
    qdrant.build(collection, options)
    index = qdrant.open(collection, options)
    index.apply([upsert(1, "i0003", queries(1)[0]), delete(2, "i0004"), upsert(3, "new", queries(1, seed=8)[0])])
    connect(options).delete(collection.info.name, [point_id(f"i{row:04d}") for row in (10, 11, 12)])
    qdrant.build(collection, options)
    assert index.count() == COUNT
    assert found(index.search(queries(1), 1)[0]) == ["i0003"]
    qdrant.drop(collection, options)


def test_newer_files_take_the_place_of_older_ones_while_changes_that_came_later_stay(options, tmp_path):
    before = make(tmp_path / "a", name="anew--m--1", seq=5)
    after = make(tmp_path / "b", name="anew--m--1", seed=9, count=50, seq=8)
    qdrant.build(before, options)
    live = qdrant.open(before, options)
    live.apply([upsert(9, "i0060", queries(1)[0]), upsert(6, "gone", queries(1)[0])])
    with pytest.raises(Conflict, match="filled from other files of it; bring it up to date: vitrine index sync shop"):
        qdrant.open(after, options)
    qdrant.build(after, options)
    assert live.count() == qdrant.open(after, options).count() == 51
    assert found(live.search(queries(1), 1)[0]) == ["i0060"]
    assert (live.vectors(["i0007"]) == after.vectors[7]).all()
    with pytest.raises(Conflict, match="filled from other files of it; bring it up to date: vitrine index sync shop"):
        qdrant.open(before, options)
    qdrant.drop(after, options)


def test_a_collection_of_another_history_is_made_anew(options, tmp_path):
    before = make(tmp_path / "a", name="again--m--1", seq=50, history="one")
    after = make(tmp_path / "b", name="again--m--1", seed=9, seq=2, history="two")
    qdrant.build(before, options)
    qdrant.open(before, options).apply([upsert(60, "i0003", queries(1)[0])])
    with pytest.raises(Conflict, match="another embedding"):
        qdrant.open(after, options)
    qdrant.build(after, options)
    assert (qdrant.open(after, options).vectors(["i0003"]) == after.vectors[3]).all()
    qdrant.drop(after, options)


def test_an_alias_for_other_programs_follows_what_is_published(tmp_path):
    client = EdgeClient()
    first, second = (make(tmp_path / f"{n}", name=f"shop--m--{n}", version=n, seed=n) for n in (1, 2))
    for collection in (first, second):
        qdrant.build(collection, {"client": client})
    for collection in (first, second, second, first):
        qdrant.publish(collection, {"client": client})
        stored = client.retrieve("shop--m", [point_id("i0003")], with_vectors=True)[0].vector
        assert list(stored) == [f"v{collection.info.version}"]
