import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from vitrine import qdrant_edge, qdrant_server
from vitrine.encoder import normalise
from vitrine.errors import BadInput, Unavailable
from vitrine.qdrant_plan import NO_GRAPH, Pass, QdrantSettings, latency, parts_of, payloads

TOP, EXACT = Pass("top", 10), Pass("exact", 25, exact=True)
PASSES = (TOP, Pass("deep", 25), EXACT, Pass("one-in-10", 10, parts=10))


def drawn(count, dim, seed):
    return normalise(np.random.default_rng(seed).normal(size=(count, dim)))


@pytest.fixture(scope="module")
def space():
    return drawn(300, 16, 0), drawn(20, 16, 1)


@pytest.fixture(scope="module")
def run(space):
    return qdrant_edge.measure(*space, PASSES)


@pytest.fixture(scope="module")
def hard():
    """Without any structure, which is what a graph finds hardest."""
    return drawn(2000, 64, 2), drawn(60, 64, 3)


def truth(space, k, parts=1):
    """Rows of the k nearest, by a loop over queries and rows."""
    gallery, queries = space
    numbers = parts_of(len(gallery))
    found = []
    for place, query in enumerate(queries):
        rows = [row for row in range(len(gallery)) if numbers[row] % parts == place % parts]
        found.append(sorted(rows, key=lambda row: (-float(gallery[row] @ query), row))[:k])
    return np.array(found)


def recall(lists, expected):
    return np.mean([len(set(row) & set(right)) / len(right) for row, right in zip(lists.rows, expected, strict=True)])


# --- what it finds --------------------------------------------------------------------------------


def test_a_graph_is_really_built_for_a_small_set(run):
    assert (run.graph, run.indexed_vectors) == ("hnsw", 300)


def test_the_graph_finds_nearly_everything(run, space):
    assert recall(run.lists["deep"], truth(space, 25)) > 0.95


def test_its_full_scan_is_the_truth(run, space):
    np.testing.assert_array_equal(run.lists["exact"].rows, truth(space, 25))


def test_scores_are_inner_products_and_fall(run, space):
    gallery, queries = space
    found = run.lists["deep"]
    np.testing.assert_allclose(found.scores, np.einsum("qkd,qd->qk", gallery[found.rows], queries), atol=1e-5)
    assert (np.diff(found.scores, axis=1) <= 0).all()


def test_a_filter_leaves_only_the_rows_of_the_querys_part(run):
    numbers = parts_of(300)
    for query, found in enumerate(run.lists["one-in-10"].rows):
        assert (numbers[found] % 10 == query % 10).all()


def test_filtered_answers_are_the_nearest_of_those_rows(run, space):
    np.testing.assert_array_equal(run.lists["one-in-10"].rows, truth(space, 10, parts=10))


def test_equal_vectors_come_in_row_order():
    gallery = np.repeat(drawn(4, 16, 5), 6, axis=0)
    found = qdrant_edge.measure(gallery, gallery[::6], (Pass("top", 6), Pass("exact", 6, exact=True)))
    for lists in found.lists.values():
        assert lists.rows.tolist() == [list(range(6 * n, 6 * n + 6)) for n in range(4)]


def test_the_same_vectors_give_the_same_answers(run, space):
    again = qdrant_edge.measure(*space, PASSES)
    for name, found in again.lists.items():
        np.testing.assert_array_equal(found.rows, run.lists[name].rows)


def test_a_gallery_smaller_than_the_depth_gives_all_of_it():
    gallery = drawn(4, 8, 1)
    run = qdrant_edge.measure(gallery, gallery[:2], (Pass("top", 50),))
    assert sorted(run.lists["top"].rows[0])[-4:] == [0, 1, 2, 3]
    assert (run.lists["top"].rows[:, 4:] == -1).all()


def test_it_names_engine_build_time_latency_and_memory(run):
    assert run.engine.startswith("qdrant-edge 0.")
    assert run.build_seconds > 0
    found = run.lists["top"].latency_ms
    assert 0 < found["p50"] <= found["p95"] <= found["p99"]
    assert run.memory["disk_bytes_per_vector"] > 16 * 4
    assert run.memory["rss_bytes_per_vector"] > 0


def test_progress_reports_upload_graph_and_every_pass(space):
    steps = []

    def track(things, what, total=None):
        for thing in things:
            steps.append((what, total))
            yield thing

    qdrant_edge.measure(*space, PASSES, track=track)
    assert steps == [("searching Qdrant's engine", 2 + len(PASSES))] * (2 + len(PASSES))


# --- settings -------------------------------------------------------------------------------------


def test_a_poorer_graph_finds_less(hard):
    rich, poor = (
        qdrant_edge.measure(*hard, (TOP,), QdrantSettings(m=m, ef_construct=build, ef=ef)).lists["top"]
        for m, build, ef in ((16, 100, 128), (4, 8, 10))
    )
    expected = truth(hard, 10)
    assert recall(poor, expected) < 0.5
    assert recall(rich, expected) > 0.95


@pytest.mark.parametrize("kind", ["scalar", "turbo", "binary"])
def test_quantisation_loses_and_rescoring_wins_back(hard, kind):
    rescored, raw = (
        qdrant_edge.measure(
            *hard, (TOP,), QdrantSettings(quantization=kind, rescore=rescore, oversampling=4 if rescore else 1)
        ).lists["top"]
        for rescore in (True, False)
    )
    expected = truth(hard, 10)
    assert recall(raw, expected) < 1
    assert recall(rescored, expected) > recall(raw, expected)


def test_a_full_scan_ignores_quantisation(hard):
    found = qdrant_edge.measure(*hard, (EXACT,), QdrantSettings(quantization="binary", rescore=False))
    np.testing.assert_array_equal(found.lists["exact"].rows, truth(hard, 25))


def test_vectors_on_disk_give_the_same_answers(space, run):
    found = qdrant_edge.measure(*space, PASSES, QdrantSettings(on_disk=True))
    np.testing.assert_array_equal(found.lists["exact"].rows, run.lists["exact"].rows)
    assert found.graph == "hnsw"


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"m": 1}, "m of Qdrant is 1; give 2 or more"),
        ({"ef": 0}, "ef of Qdrant is 0; give 1 or more"),
        ({"oversampling": 0.5}, "oversampling of Qdrant is 0.5; give 1 or more"),
        ({"quantization": "tiny"}, "no quantization 'tiny', only: none, scalar, turbo, binary"),
    ],
)
def test_settings_out_of_range_are_refused(wrong, words):
    with pytest.raises(BadInput, match=words):
        QdrantSettings(**wrong)


# --- what is known to go wrong --------------------------------------------------------------------


def test_below_the_threshold_it_says_that_no_graph_was_built(space):
    run = qdrant_edge.measure(*space, (TOP,), QdrantSettings(indexing_threshold_kb=10_000))
    assert (run.graph, run.indexed_vectors) == (NO_GRAPH, 0)


def test_payload_indexes_come_before_the_graph(hard):
    """The other way round this filter finds 0.02 of the nearest (engine 0.9.0), and 0.75 with m = 16."""
    settings = QdrantSettings(m=4, ef_construct=16, ef=16)
    found = qdrant_edge.measure(*hard, (Pass("one-in-10", 10, parts=10),), settings)
    assert recall(found.lists["one-in-10"], truth(hard, 10, parts=10)) > 0.6


def test_a_filter_of_exactly_the_full_scan_threshold_shows_in_the_recall():
    """The engine builds no graph for such a part and yet searches it by graph; measured, not hidden."""
    space = drawn(1000, 64, 4), drawn(50, 64, 5)  # 100 rows a part, 100 x 64 x 4 bytes = 25 KB
    expected = truth(space, 10, parts=10)
    at, below = (
        recall(
            qdrant_edge.measure(
                *space,
                (Pass("one-in-10", 10, parts=10),),
                QdrantSettings(m=4, ef_construct=16, ef=16, full_scan_threshold_kb=threshold),
            ).lists["one-in-10"],
            expected,
        )
        for threshold in (25, 24)
    )
    assert at < below - 0.1


def test_this_process_goes_on_while_the_engine_works(hard):
    ticks, stop = [], threading.Event()

    def tick():
        while not stop.wait(0.01):
            ticks.append(time.monotonic())

    ticker = threading.Thread(target=tick)
    ticker.start()
    began = time.monotonic()
    qdrant_edge.measure(*hard, (TOP,))
    elapsed = time.monotonic() - began
    stop.set()
    ticker.join()
    assert len(ticks) > elapsed / 0.01 / 10  # with the engine in this process a single tick got through


def test_the_callers_process_never_loads_the_engine():
    code = (
        "import sys, numpy as np; from vitrine import qdrant_edge as e; from vitrine.qdrant_plan import Pass;"
        "v = np.eye(8, dtype=np.float32); e.measure(v, v, [Pass('top', 3)]); sys.exit('qdrant_edge' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_caller_that_has_used_the_engine_itself_is_no_obstacle(tmp_path):
    """A forked child would wait for ever for threads that stayed behind; a fresh interpreter does not."""
    code = f"""
import numpy as np, qdrant_edge as edge
from vitrine import qdrant_edge as driver
from vitrine.qdrant_plan import Pass
config = edge.EdgeConfig(vectors=edge.EdgeVectorParams(size=8, distance=edge.Distance.Dot))
import os; os.mkdir({str(tmp_path / "own")!r})
shard = edge.EdgeShard.create({str(tmp_path / "own")!r}, config)
v = np.eye(8, dtype=np.float32)
shard.update(edge.UpdateOperation.upsert_points([edge.Point(n, row) for n, row in enumerate(v)]))
shard.query(edge.QueryRequest(limit=3, query=edge.Query.Nearest(v[0])))
assert driver.measure(v, v, [Pass("top", 1)], timeout_s=60).lists["top"].rows[:, 0].tolist() == list(range(8))
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, timeout=120, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_two_at_once_keep_out_of_each_others_way(space, run):
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda _: qdrant_edge.measure(*space, (EXACT,)), range(2)))
    for one in found:
        np.testing.assert_array_equal(one.lists["exact"].rows, run.lists["exact"].rows)


def test_a_folder_of_the_engine_is_opened_once(tmp_path):
    np.save(tmp_path / "vectors.npy", drawn(20, 8, 0))
    np.save(tmp_path / "queries.npy", drawn(2, 8, 0))
    (tmp_path / "wanted.json").write_text(json.dumps({"settings": {}, "passes": [], "timeout_s": 60}))
    command = [sys.executable, "-m", "vitrine.qdrant_edge_process", str(tmp_path)]
    first, second = (subprocess.run(command, check=False, capture_output=True, text=True) for _ in range(2))
    assert first.returncode == 0
    assert "FileExistsError" in second.stderr


def test_a_run_that_takes_too_long_is_unavailable(space):
    with pytest.raises(Unavailable, match="did not finish within 0 s"):
        qdrant_edge.measure(*space, PASSES, timeout_s=0.001)


def test_an_engine_whose_caller_is_gone_ends_by_itself(tmp_path):
    np.save(tmp_path / "vectors.npy", drawn(20_000, 64, 0))
    np.save(tmp_path / "queries.npy", drawn(2, 64, 0))
    (tmp_path / "wanted.json").write_text(json.dumps({"settings": {}, "passes": [], "timeout_s": 0.5}))
    command = [sys.executable, "-m", "vitrine.qdrant_edge_process", str(tmp_path)]
    assert subprocess.run(command, check=False, timeout=60).returncode == -signal.SIGALRM


def test_a_killed_engine_is_unavailable_in_one_sentence(space, tmp_path, monkeypatch):
    (tmp_path / "qdrant_edge.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    with pytest.raises(
        Unavailable, match=r"was stopped by SIGKILL, which often means that memory ran out.*--via exact"
    ):
        qdrant_edge.measure(*space, PASSES)


def test_an_engine_error_is_unavailable_with_its_own_words(space):
    with pytest.raises(Unavailable, match=r"failed \(exit 1\): .*--via exact"):
        qdrant_edge.measure(space[0], np.ones((1, 3), np.float32), PASSES)


def test_a_missing_engine_says_what_to_install(space, tmp_path, monkeypatch):
    (tmp_path / "qdrant_edge.py").write_text("raise ModuleNotFoundError('No module named qdrant_edge')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(Unavailable, match="qdrant-edge-py, which is not installed"):
        qdrant_edge.measure(*space, PASSES)


# --- the plan -------------------------------------------------------------------------------------


def test_parts_are_even_and_know_nothing_of_the_row():
    counts = np.bincount(parts_of(1000) % 100)
    assert set(counts.tolist()) == {10}
    assert len(np.unique(np.flatnonzero(parts_of(1000) % 100 == 0) % 100)) > 5


def test_payloads_name_a_part_for_each_filter():
    given = payloads(50, (TOP, Pass("a", 5, parts=10), Pass("b", 5, parts=25)))
    assert given[7] == {"one_in_10": str(parts_of(50)[7] % 10), "one_in_25": str(parts_of(50)[7] % 25)}


def test_latency_of_no_query_is_zero():
    assert latency(np.array([])) == {"p50": 0.0, "p95": 0.0, "p99": 0.0}


# --- the same through a server --------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:Local mode performs exact")
def test_a_server_is_measured_the_same_way(space):
    run = qdrant_server.measure(*space, PASSES, location=":memory:")
    np.testing.assert_array_equal(run.lists["exact"].rows, truth(space, 25))
    np.testing.assert_array_equal(run.lists["one-in-10"].rows, truth(space, 10, parts=10))
    assert run.graph == NO_GRAPH  # local mode builds none
    assert run.memory == {"rss_bytes_per_vector": None, "disk_bytes_per_vector": None}


class Counting:
    """An index whose graph grows by what is listed, one number a question."""

    def __init__(self, *counts):
        self.counts = list(counts)

    def indexed_vectors(self):
        return self.counts.pop(0) if len(self.counts) > 1 else self.counts[0]


def test_a_graph_that_is_still_growing_is_waited_for():
    assert qdrant_server.await_graph(Counting(0, 0, 40, 100), 100, settled_s=5) == 100


def test_a_graph_that_does_not_come_is_not_waited_for_long():
    began = time.monotonic()
    assert qdrant_server.await_graph(Counting(0), 100, settled_s=0.3) == 0
    assert time.monotonic() - began < 3
