import subprocess
import sys

import numpy as np
import pytest

from vitrine import qdrant_edge, qdrant_server
from vitrine.encoder import normalise
from vitrine.errors import Unavailable
from vitrine.qdrant_edge import GraphSettings


@pytest.fixture(scope="module")
def space():
    draw = np.random.default_rng(0)
    return normalise(draw.normal(size=(300, 16))), normalise(draw.normal(size=(20, 16)))


@pytest.fixture(scope="module")
def run(space):
    return qdrant_edge.measure(*space, 25)


def truth(space, k):
    return np.argsort(-(space[1] @ space[0].T), axis=1, kind="stable")[:, :k]


def test_a_graph_is_really_built_for_a_small_set(run):
    assert (run.graph, run.indexed_vectors) == ("hnsw", 300)


def test_the_graph_finds_nearly_everything(run, space):
    expected = truth(space, 25)
    shares = [len(set(row) & set(right)) / 25 for row, right in zip(run.rows, expected, strict=True)]
    assert np.mean(shares) > 0.95


def test_its_full_scan_is_the_truth(run, space):
    np.testing.assert_array_equal(run.exact_rows, truth(space, qdrant_edge.EXACT_DEPTH))


def test_scores_are_inner_products_and_fall(run, space):
    gallery, queries = space
    np.testing.assert_allclose(run.scores, np.einsum("qkd,qd->qk", gallery[run.rows], queries), atol=1e-5)
    assert (np.diff(run.scores, axis=1) <= 0).all()


def test_the_same_vectors_give_the_same_answers(run, space):
    np.testing.assert_array_equal(qdrant_edge.measure(*space, 25).rows, run.rows)


def test_below_the_threshold_it_says_that_no_graph_was_built(space):
    run = qdrant_edge.measure(*space, 5, GraphSettings(indexing_threshold_kb=10_000))
    assert (run.graph, run.indexed_vectors) == (qdrant_edge.NO_GRAPH, 0)


def test_a_gallery_smaller_than_the_depth_gives_all_of_it():
    gallery = normalise(np.random.default_rng(1).normal(size=(4, 8)))
    run = qdrant_edge.measure(gallery, gallery[:2], 50)
    assert run.rows.shape == (2, 4)
    assert sorted(run.rows[0]) == [0, 1, 2, 3]


def test_it_names_engine_build_time_and_latency(run):
    assert run.engine.startswith("qdrant-edge 0.")
    assert run.build_seconds > 0
    assert 0 < run.latency_ms["p50"] <= run.latency_ms["p95"]


def test_a_run_that_takes_too_long_is_unavailable(space):
    with pytest.raises(Unavailable, match="did not finish within 0 s"):
        qdrant_edge.measure(*space, 5, timeout_s=0.001)


def test_an_engine_error_is_unavailable_with_its_own_words(space):
    with pytest.raises(Unavailable, match=r"failed \(exit 1\): .*--via exact"):
        qdrant_edge.measure(space[0], np.ones((1, 3), np.float32), 5)


def test_a_missing_engine_says_what_to_install(space, tmp_path, monkeypatch):
    (tmp_path / "qdrant_edge.py").write_text("raise ModuleNotFoundError('No module named qdrant_edge')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(Unavailable, match="qdrant-edge-py, which is not installed"):
        qdrant_edge.measure(*space, 5)


def test_the_callers_process_never_loads_the_engine():
    code = (
        "import sys, numpy as np; from vitrine import qdrant_edge as e;"
        "v = np.eye(8, dtype=np.float32); e.measure(v, v, 3); sys.exit('qdrant_edge' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_server_is_measured_the_same_way(space):
    run = qdrant_server.measure(*space, 25, location=":memory:")
    np.testing.assert_array_equal(run.rows, truth(space, 25))
    assert run.graph == qdrant_edge.NO_GRAPH  # local mode builds none
