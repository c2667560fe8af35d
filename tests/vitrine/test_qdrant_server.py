import numpy as np
import pytest

from tests.qdrant_double import Double, serving
from vitrine import qdrant_edge, qdrant_server
from vitrine.encoder import normalise
from vitrine.errors import BadInput, Unavailable
from vitrine.qdrant_plan import Pass, QdrantSettings

COUNT = 120
PASSES = (Pass("top", 10), Pass("exact", 20, exact=True), Pass("one-in-10", 10, parts=10))
SETTINGS = QdrantSettings(m=8, ef_construct=50, ef=64, quantization="scalar", oversampling=3.0, on_disk=True)


@pytest.fixture(scope="module")
def space():
    draw = np.random.default_rng(0)
    return normalise(draw.normal(size=(COUNT, 12))), normalise(draw.normal(size=(12, 12)))


@pytest.fixture(scope="module")
def double():
    return Double(0, 60, COUNT)


@pytest.fixture(scope="module")
def run(space, double):
    with serving(double) as where:
        return qdrant_server.measure(*space, PASSES, SETTINGS, **where)


def test_a_server_and_the_embedded_engine_give_the_same_full_scan(space, run):
    other = qdrant_edge.measure(*space, PASSES)
    np.testing.assert_array_equal(run.lists["exact"].rows, other.lists["exact"].rows)
    np.testing.assert_array_equal(run.lists["one-in-10"].rows, other.lists["one-in-10"].rows)


def test_it_waits_for_the_graph_and_names_the_server(run):
    assert (run.graph, run.indexed_vectors, run.engine) == ("hnsw", COUNT, "qdrant 1.19.0")


def test_the_collection_is_made_with_the_settings(run, double):
    (made,) = double.of("CreateCollection")
    assert (made.hnsw_config.m, made.hnsw_config.ef_construct, made.hnsw_config.full_scan_threshold) == (8, 50, 1)
    assert made.optimizers_config.indexing_threshold == 1
    assert made.quantization_config.WhichOneof("quantization") == "scalar"
    assert made.vectors_config.params_map.map["v1"].on_disk


def test_payload_indexes_are_made_before_the_first_vector_is_sent(run, double):
    kinds = [type(request).__name__ for request in double.said]
    fields = [request.field_name for request in double.of("CreateFieldIndexCollection")]
    assert set(fields) == {"item_id", "_seq", "_product", "_base", "one_in_10"}
    last_index = max(place for place, kind in enumerate(kinds) if kind == "CreateFieldIndexCollection")
    assert last_index < kinds.index("UpsertPoints")


def test_each_pass_asks_with_its_own_parameters(run, double):
    asked = [request.query_points[0] for request in double.of("QueryBatchPoints")]
    assert all(len(request.query_points) == 1 for request in double.of("QueryBatchPoints"))  # one call a query
    approximate, exact = ([one for one in asked if one.params.exact is wanted] for wanted in (False, True))
    assert {one.params.hnsw_ef for one in approximate} == {64}
    assert {(one.params.quantization.rescore, one.params.quantization.oversampling) for one in approximate} == {
        (True, 3.0)
    }
    assert {(one.limit, one.params.quantization.ignore) for one in exact} == {
        (21, True)
    }  # one more tells whether equals were cut off


def test_a_long_list_raises_the_candidates_to_its_length(space):
    double = Double(COUNT)
    with serving(double) as where:
        qdrant_server.measure(*space, (Pass("deep", 100),), QdrantSettings(ef=64), **where)
    assert {request.query_points[0].params.hnsw_ef for request in double.of("QueryBatchPoints")} == {100}


@pytest.mark.parametrize("kind", ["turbo", "binary"])
def test_other_quantisations_are_asked_for_by_name(space, kind):
    double = Double(COUNT)
    with serving(double) as where:
        qdrant_server.measure(*space, PASSES[:1], QdrantSettings(quantization=kind), **where)
    found = double.of("CreateCollection")[0].quantization_config.WhichOneof("quantization")
    assert found == {"turbo": "turboquant", "binary": "binary"}[kind]


def test_the_collection_is_gone_afterwards_and_had_a_name_of_its_own(run, double):
    (made,), (dropped,) = double.of("CreateCollection"), double.of("DeleteCollection")
    assert dropped.collection_name == made.collection_name
    assert made.collection_name.startswith("vitrine-evaluation-")


def test_a_search_that_fails_leaves_no_collection_behind(space):
    double = Double(COUNT)
    with serving(double) as where, pytest.raises(BadInput, match=r"query vectors have shape \(1, 3\)"):
        qdrant_server.measure(space[0], np.ones((1, 3), np.float32), PASSES, **where)
    assert len(double.of("DeleteCollection")) == 1


def test_a_server_that_goes_away_is_unavailable_with_its_words(space):
    with (
        serving(Double(COUNT, answers=5)) as where,
        pytest.raises(Unavailable, match=r"did not answer as it should \(node is going down\); check that the server"),
    ):
        qdrant_server.measure(*space, PASSES, **where)
