from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vitrine.errors import BadInput, Unavailable
from vitrine.metrics import ranking_metrics
from vitrine.ranking import Limits, exact_metrics, rank
from vitrine.scoring import HostArrays, TorchArrays, copies

# Small whole numbers: products are exact in float32, so ties are real ties.
coordinate = st.integers(-2, 2)


@st.composite
def searches(draw):
    dim = draw(st.integers(1, 3))
    gallery = draw(st.lists(st.lists(coordinate, min_size=dim, max_size=dim), min_size=1, max_size=15))
    chosen = draw(st.lists(st.integers(0, len(gallery) - 1), min_size=1, max_size=6))
    strangers = draw(st.lists(st.lists(coordinate, min_size=dim, max_size=dim), max_size=3))
    labels = draw(st.lists(st.sampled_from("abc"), min_size=len(gallery), max_size=len(gallery)))
    queries = [gallery[row] for row in chosen] + strangers
    query_ids = [f"{row:02d}" for row in chosen] + [f"x{number}" for number in range(len(strangers))]
    query_labels = [labels[row] for row in chosen] + ["c"] * len(strangers)
    gallery_ids = [f"{row:02d}" for row in range(len(gallery))]
    return np.array(queries, "f4"), np.array(gallery, "f4"), query_ids, gallery_ids, query_labels, labels


def loop_rank(query, gallery, query_id, gallery_ids):
    rows = [row for row in range(len(gallery)) if gallery_ids[row] != query_id]
    return sorted(rows, key=lambda row: (-float(query @ gallery[row]), row))


@settings(max_examples=150, deadline=None)
@given(searches(), st.integers(1, 4), st.one_of(st.none(), st.integers(1, 20)))
def test_a_ranking_equals_sorting_by_score_then_row(search, block_rows, depth):
    queries, gallery, query_ids, gallery_ids, _, _ = search
    found = {}
    blocks = rank(queries, gallery, query_ids=query_ids, gallery_ids=gallery_ids, depth=depth, block_rows=block_rows)
    for block in blocks:
        assert len(block.rows) <= block_rows
        for offset, (rows, scores) in enumerate(zip(block.rows, block.scores, strict=True)):
            found[block.start + offset] = [int(row) for row in rows if row >= 0]
            assert np.isneginf(scores[rows < 0]).all()
            np.testing.assert_array_equal(scores[rows >= 0], gallery[rows[rows >= 0]] @ queries[block.start + offset])
    for number, query in enumerate(queries):
        assert found[number] == loop_rank(query, gallery, query_ids[number], gallery_ids)[:depth]


@settings(max_examples=100, deadline=None)
@given(searches())
def test_exact_metrics_equal_one_query_at_a_time(search):
    queries, gallery, query_ids, gallery_ids, query_labels, labels = search
    result = exact_metrics(queries, gallery, query_ids, gallery_ids, query_labels, labels)
    for number, query in enumerate(queries):
        order = loop_rank(query, gallery, query_ids[number], gallery_ids)
        relevant = np.array([[labels[row] == query_labels[number] for row in order]], bool)
        assert result.n_relevant[number] == relevant.sum()
        expected = ranking_metrics(relevant, np.array([relevant.sum()]), full=True)
        for name, column in expected.items():
            np.testing.assert_allclose(result.metrics[name][number], column[0], err_msg=name)
        assert [row for row in result.top_rows[number] if row >= 0] == order[:10]


def unit(count: int, dim: int, seed: int) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(count, dim)).astype("f4")
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_a_query_never_matches_itself():
    vectors, ids = unit(50, 8, 0), [f"{row:02d}" for row in range(50)]
    for block in rank(vectors, vectors, query_ids=ids, gallery_ids=ids, block_rows=7):
        own = np.arange(block.start, block.start + len(block.rows))
        assert not (block.rows == own[:, None]).any()
        assert block.rows.shape[1] == 49


def test_an_exact_copy_under_another_id_is_found_first():
    vectors = unit(10, 8, 1)
    vectors[7] = vectors[2]
    ids = [f"{row:02d}" for row in range(10)]
    rows = np.concatenate([block.rows for block in rank(vectors, vectors, query_ids=ids, gallery_ids=ids)])
    assert (rows[2, 0], rows[7, 0]) == (7, 2)


def test_the_only_item_of_its_label_has_nothing_to_find():
    vectors, ids = unit(3, 4, 2), ["a", "b", "c"]
    result = exact_metrics(vectors, vectors, ids, ids, ["x", "x", "y"], ["x", "x", "y"])
    assert result.n_relevant.tolist() == [1, 1, 0]
    assert np.isnan(result.metrics["mmp@5"][2])


def test_a_cut_ranking_is_the_beginning_of_the_full_one():
    queries, gallery = unit(20, 16, 3), unit(500, 16, 4)
    ids = {"query_ids": [f"q{row}" for row in range(20)], "gallery_ids": [f"g{row}" for row in range(500)]}
    (full,) = rank(queries, gallery, **ids)
    (cut,) = rank(queries, gallery, **ids, depth=10)
    np.testing.assert_array_equal(cut.rows, full.rows[:, :10])
    np.testing.assert_array_equal(cut.scores, full.scores[:, :10])


def test_progress_reports_every_block():
    seen = []

    def track(things, what, total=None):
        for thing in things:
            seen.append((what, total))
            yield thing

    queries = unit(600, 4, 5)
    ids = [str(row) for row in range(600)]
    exact_metrics(queries, queries, ids, ids, ["a"] * 600, ["a"] * 600, track=track)
    assert seen == [("ranking", 3)] * 3


def test_a_vector_that_is_not_finite_is_named():
    gallery = unit(3, 4, 6)
    gallery[1, 0] = np.nan
    with pytest.raises(BadInput, match="gallery vector 1 is not finite"):
        rank(unit(1, 4, 7), gallery, query_ids=["q"], gallery_ids=["a", "b", "c"])


def test_an_id_listed_twice_is_refused():
    with pytest.raises(BadInput, match="1 gallery ids occur twice"):
        rank(unit(1, 4, 7), unit(2, 4, 8), query_ids=["q"], gallery_ids=["a", "a"])


def test_widths_that_differ_are_refused():
    with pytest.raises(BadInput, match="with the same D"):
        rank(unit(1, 4, 7), unit(2, 5, 8), query_ids=["q"], gallery_ids=["a", "b"])


def test_an_empty_gallery_is_refused():
    with pytest.raises(BadInput, match="the gallery is empty"):
        exact_metrics(unit(1, 4, 7), np.zeros((0, 4), "f4"), ["q"], [], ["x"], [])


@pytest.mark.filterwarnings("error")
def test_a_query_outside_the_category_tree_has_no_graded_value_and_all_others():
    vectors, ids, labels = np.eye(4, dtype="f4"), list("abcd"), list("xxyy")
    paths = [(), ("home", "kitchen"), ("home", "kitchen"), ("home",)]
    found = exact_metrics(vectors, vectors, ids, ids, labels, labels, paths=(paths, paths)).metrics
    assert np.isnan(found["ndcg@10[tree]"]).tolist() == [True, False, False, False]
    assert not np.isnan(found["mrr"]).any()


def test_a_missing_label_is_refused():
    with pytest.raises(BadInput, match="0 labels for 1 queries"):
        exact_metrics(unit(1, 4, 7), unit(1, 4, 8), ["q"], ["a"], [], ["x"])


def paths_of(labels):
    """a and b share a department, c has one of its own; one path is shorter than the others."""
    return [{"a": ("home", "kitchen", "a"), "b": ("home", "kitchen"), "c": ("fashion", "tops", "c")}[x] for x in labels]


def loop_graded_ndcg(query_path, order, gallery_paths):
    def grade(path):
        return next(
            (n for n, (x, y) in enumerate(zip(path, query_path, strict=False)) if x != y),
            min(len(path), len(query_path)),
        )

    grades = [grade(gallery_paths[row]) for row in order]
    gain = sum(g / np.log2(place + 2) for place, g in enumerate(grades[:10]))
    return gain / sum(g / np.log2(place + 2) for place, g in enumerate(sorted(grades, reverse=True)[:10]))


@settings(max_examples=100, deadline=None)
@given(searches())
def test_graded_relevance_equals_one_query_at_a_time(search):
    queries, gallery, query_ids, gallery_ids, query_labels, labels = search
    paths = (paths_of(query_labels), paths_of(labels))
    result = exact_metrics(queries, gallery, query_ids, gallery_ids, query_labels, labels, paths=paths)
    for number, query in enumerate(queries):
        order = loop_rank(query, gallery, query_ids[number], gallery_ids)
        found = result.metrics["ndcg@10[tree]"][number]
        if result.n_relevant[number]:
            assert found == pytest.approx(loop_graded_ndcg(paths[0][number], order, paths[1]))
        else:
            assert np.isnan(found)


@settings(max_examples=100, deadline=None)
@given(searches(), st.lists(st.sampled_from("pqr"), min_size=15, max_size=15))
def test_exact_copies_are_no_answers_and_not_missed(search, photos):
    queries, gallery, query_ids, gallery_ids, query_labels, labels = search
    of_gallery = photos[: len(gallery)]
    of_queries = [dict(zip(gallery_ids, of_gallery, strict=True)).get(one, "p") for one in query_ids]
    result = exact_metrics(
        queries, gallery, query_ids, gallery_ids, query_labels, labels, copies=(of_queries, of_gallery)
    )
    for number, query in enumerate(queries):
        order = [
            row
            for row in loop_rank(query, gallery, query_ids[number], gallery_ids)
            if of_gallery[row] != of_queries[number]
        ]
        relevant = np.array([[labels[row] == query_labels[number] for row in order]], bool)
        assert result.n_relevant[number] == relevant.sum()
        for name, column in ranking_metrics(relevant, np.array([relevant.sum()]), full=True).items():
            np.testing.assert_allclose(result.metrics[name][number], column[0], err_msg=name)
        assert [row for row in result.top_rows[number] if row >= 0] == order[:10]


@pytest.mark.parametrize("classes", [3, 60])
def test_torch_and_numpy_give_the_same_result(classes):
    """Few and many relevant items a query take the two ways of counting; small whole numbers give real ties."""
    rng = np.random.default_rng(classes)
    vectors = rng.integers(-3, 4, (300, 5)).astype("f4")
    ids = [f"{row:03d}" for row in range(300)]
    labels = [str(number) for number in rng.integers(0, classes, 300)]
    arguments = (vectors, vectors, ids, ids, labels, labels)
    host = exact_metrics(*arguments, limits=Limits(threads=1))
    device = exact_metrics(*arguments, limits=Limits(device="cpu:0"))  # any name but "cpu" is torch's
    np.testing.assert_array_equal(host.top_rows, device.top_rows)
    for name, column in host.metrics.items():
        np.testing.assert_array_equal(column, device.metrics[name], err_msg=name)


def test_a_collapsed_space_is_ranked_by_row_alone():
    vectors, ids = np.ones((40, 4), "f4"), [f"{row:02d}" for row in range(40)]
    labels = ["x" if row < 2 else "y" for row in range(40)]
    result = exact_metrics(vectors, vectors, ids, ids, labels, labels)
    assert result.metrics["mrr"][:2].tolist() == [1.0, 1.0]
    assert result.metrics["mrr"][39] == pytest.approx(1 / 3)


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_of_many_equal_scores_no_more_than_the_list_holds_are_ordered(library):
    """All 49,900 ties of the block at once would take many times the block's memory."""
    gallery, queries = np.ones((500, 4), "f4"), np.ones((100, 4), "f4")
    gallery[7] = 2
    scores = (HostArrays(queries, gallery) if library == "numpy" else TorchArrays(queries, gallery, "cpu")).scores(
        0, 100
    )
    rows, columns, _ = scores.reaching_kth(3)
    assert rows.tolist() == np.repeat(np.arange(100), 3).tolist()
    assert columns.tolist() == [0, 1, 7] * 100


def test_threads_and_memory_change_nothing():
    vectors, ids = unit(700, 8, 9), [f"{row:03d}" for row in range(700)]
    labels = [str(row % 40) for row in range(700)]
    one = exact_metrics(vectors, vectors, ids, ids, labels, labels, limits=Limits(threads=1))
    many = exact_metrics(vectors, vectors, ids, ids, labels, labels, limits=Limits(threads=3))
    np.testing.assert_array_equal(one.top_scores, many.top_scores)
    np.testing.assert_array_equal(one.metrics["map[/R]"], many.metrics["map[/R]"])


def stopping_after(blocks):
    def track(things, _what, _total=None):
        for number, thing in enumerate(things):
            yield thing
            if number + 1 == blocks:
                raise KeyboardInterrupt

    return track


def test_an_interrupted_ranking_goes_on_where_it_stopped(tmp_path):
    vectors, ids = unit(2000, 8, 10), [f"{row:04d}" for row in range(2000)]
    labels = [str(row % 40) for row in range(2000)]
    arguments, limits = (vectors, vectors, ids, ids, labels, labels), Limits(threads=1, resume=tmp_path / "ranking")
    with pytest.raises(KeyboardInterrupt):
        exact_metrics(*arguments, limits=limits, track=stopping_after(5))
    seen = []
    found = exact_metrics(
        *arguments, limits=limits, track=lambda things, _what, total=None: seen.append(total) or things
    )
    assert seen == [3]  # 8 blocks of 256
    np.testing.assert_array_equal(found.metrics["ndcg"], exact_metrics(*arguments).metrics["ndcg"])
    assert not limits.resume.exists()


def test_an_unfinished_ranking_of_other_vectors_is_not_used(tmp_path):
    ids, labels = [f"{row:04d}" for row in range(600)], [str(row % 40) for row in range(600)]
    limits = Limits(threads=1, resume=tmp_path / "ranking")
    first, second = unit(600, 8, 11), unit(600, 8, 12)
    with pytest.raises(KeyboardInterrupt):
        exact_metrics(first, first, ids, ids, labels, labels, limits=limits, track=stopping_after(1))
    found = exact_metrics(second, second, ids, ids, labels, labels, limits=limits)
    np.testing.assert_array_equal(found.top_rows, exact_metrics(second, second, ids, ids, labels, labels).top_rows)


def test_a_ranking_whose_folder_another_run_removed_is_whole_all_the_same(tmp_path):
    vectors, ids = unit(300, 8, 13), [f"{row:03d}" for row in range(300)]
    arguments, limits = (vectors, vectors, ids, ids, ids, ids), Limits(threads=1, resume=tmp_path / "ranking")

    def track(things, _what, _total=None):
        yield from things
        shutil.rmtree(limits.resume)

    found = exact_metrics(*arguments, limits=limits, track=track)
    np.testing.assert_array_equal(found.top_rows, exact_metrics(*arguments).top_rows)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_device_that_is_not_there_is_named():
    with pytest.raises(Unavailable, match="device 'cuda' was asked for"):
        exact_metrics(unit(1, 4, 7), unit(1, 4, 8), ["q"], ["a"], ["x"], ["x"], limits=Limits(device="cuda"))


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_equal_vectors_are_a_tie_wherever_they_stand(library):
    """A matrix product alone rounds one in twelve of these pairs apart."""
    draw = np.random.default_rng(0)
    gallery = draw.normal(size=(400, 24)).astype("f4")
    gallery /= np.linalg.norm(gallery, axis=1, keepdims=True)
    twins = {399 - number: 5 * number for number in range(30)}
    for copy, original in twins.items():
        gallery[copy] = gallery[original]
    scores = (HostArrays(gallery, gallery) if library == "numpy" else TorchArrays(gallery, gallery, "cpu")).scores(
        0, 400
    )
    found = scores.take(np.tile(np.arange(400), (400, 1)))
    np.testing.assert_array_equal(found[:, list(twins)], found[:, list(twins.values())])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(coordinate, min_size=2, max_size=2), min_size=1, max_size=12))
def test_copies_name_the_first_equal_row(rows):
    found = dict(zip(*(part.tolist() for part in copies(np.array(rows, "f4"))), strict=True))
    assert found == {row: rows.index(vector) for row, vector in enumerate(rows) if rows.index(vector) < row}
