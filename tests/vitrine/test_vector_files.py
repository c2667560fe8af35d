from __future__ import annotations

import numpy as np
import pytest

from vitrine.errors import BadInput, NotFound, Unsupported
from vitrine.evaluate_qdrant import Through
from vitrine.evaluator import evaluate_space
from vitrine.ranking import exact_metrics
from vitrine.vector_files import read_vector_file

LABELS = ["mug", "mug", "cup", "cup", "mug", "cup"]


@pytest.fixture
def files(tmp_path):
    """Write vectors and lines; both paths."""

    def write(vectors=None, lines=None, header="item_id,label"):
        if vectors is None:
            vectors = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
        if lines is None:
            lines = [f"i{row},{label}" for row, label in enumerate(LABELS)]
        np.save(tmp_path / "vectors.npy", vectors)
        (tmp_path / "labels.csv").write_text("\n".join([header, *lines]) + "\n")
        return tmp_path / "vectors.npy", tmp_path / "labels.csv"

    return write


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_the_metrics_are_those_of_the_vectors_made_unit_length(files):
    vectors = np.random.default_rng(1).normal(size=(6, 4)).astype(np.float32)
    found = evaluate_space(read_vector_file(*files(vectors)))
    ids = [f"i{row}" for row in range(6)]
    expected = exact_metrics(unit(vectors), unit(vectors), ids, ids, LABELS, LABELS)
    assert found.metrics["map[/R]"] == pytest.approx(expected.metrics["map[/R]"].mean())
    assert (found.queries, found.gallery) == (6, 6)


def test_lines_in_any_order_mean_their_own_vector(files):
    vectors = np.eye(6, 4, dtype=np.float32) + 0.1
    lines = [f"i{5 - row},{label}" for row, label in enumerate(LABELS)]
    space = read_vector_file(*files(vectors, lines))
    assert [item.item_id for item in space.dataset.items] == [f"i{row}" for row in range(6)]
    np.testing.assert_allclose(space.vectors(space.dataset.items[:1])[0], unit(vectors)[5], rtol=1e-6)


def test_unit_vectors_are_read_from_the_file_without_a_copy(files):
    space = read_vector_file(*files(unit(np.random.default_rng(2).normal(size=(6, 4))).astype(np.float32)))
    assert isinstance(space.vectors(space.dataset.items).base, np.memmap | np.ndarray)
    assert space.vectors(space.dataset.items) is space.vectors(space.dataset.items)


def test_the_split_column_says_who_asks_and_who_is_found(files):
    lines = [f"i{row},{label},{'query' if row < 2 else 'gallery'}" for row, label in enumerate(LABELS)]
    found = evaluate_space(read_vector_file(*files(lines=lines, header="item_id,label,split")))
    assert (found.queries, found.gallery) == (2, 4)


def test_products_make_a_protocol_of_their_own(files):
    lines = [f"i{row},{label},p{row // 2}" for row, label in enumerate(LABELS)]
    space = read_vector_file(*files(lines=lines, header="item_id,label,product_id"))
    assert [protocol.name for protocol in space.dataset.protocols] == ["default", "product"]
    assert evaluate_space(space, "product").unit == "product_id"


def test_lengths_that_are_all_but_one_do_not_change_the_order_of_neighbours(files):
    vectors = unit(np.random.default_rng(4).normal(size=(6, 4))).astype(np.float32)
    vectors *= np.array([1.0005, 1, 1, 1, 1, 1], np.float32)[:, None]
    space = read_vector_file(*files(vectors))
    np.testing.assert_allclose(np.linalg.norm(space.vectors(space.dataset.items), axis=1), 1, atol=1e-6)


def test_half_precision_is_read(files):
    vectors = np.random.default_rng(3).normal(size=(6, 4)).astype(np.float16)
    assert read_vector_file(*files(vectors)).vectors(()).dtype == np.float32


def test_a_file_of_vectors_reads_no_text(files):
    with pytest.raises(Unsupported, match="cannot embed 1 titles: it is a file of vectors"):
        read_vector_file(*files()).texts(["a mug"])


@pytest.mark.parametrize(
    ("vectors", "said"),
    [
        (np.zeros((6, 4), np.float32), r"vector 1 of .*vectors.npy is zero or not finite"),
        (np.ones((6, 4), np.int64), r"holds int64 \(6, 4\); vectors are float16, float32 or float64"),
        (np.ones((5, 4), np.float32), r"has 5 vectors and .*labels.csv 6 lines after its header"),
    ],
)
def test_vectors_that_cannot_be_used_are_named(files, vectors, said):
    with pytest.raises(BadInput, match=said):
        read_vector_file(*files(vectors))


@pytest.mark.parametrize(
    ("header", "line", "said"),
    [
        ("id,label", "i5,mug", "lacks item_id; the columns are item_id, label"),
        ("item_id,label,colour", "i5,mug,red", "has unknown columns 'colour'"),
        ("item_id,label", "i5,", "line 7: label is empty"),
        ("item_id,label", "i5,mug, blue", "line 7: more values than columns; put quotes around a value"),
        ("item_id,label", "i0,mug", "line 7: item_id 'i0' is on line 2 already"),
        ("item_id,label,split", "i5,mug,train", "line 7: split 'train' is none of query, gallery, both"),
    ],
)
def test_labels_that_cannot_be_used_are_named_with_their_line(files, header, line, said):
    extra = "," * (header.count(",") - 1)
    lines = [f"i{row},{label}{extra}" for row, label in enumerate(LABELS[:5])]
    with pytest.raises(BadInput, match=said):
        read_vector_file(*files(lines=[*lines, line], header=header))


def test_pickled_arrays_are_never_opened(files):
    vectors, labels = files()
    np.save(vectors, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(BadInput, match=r"is no \.npy file of numbers"):
        read_vector_file(vectors, labels)


def test_a_missing_file_says_what_to_give(tmp_path):
    with pytest.raises(NotFound, match=r"there is no file .*labels\.csv; give a CSV file with the columns item_id"):
        read_vector_file(tmp_path / "vectors.npy", tmp_path / "labels.csv")


def test_the_exact_ranking_is_made_once_for_both_searches(files, monkeypatch):
    asked = []
    monkeypatch.setattr("vitrine.evaluator.evaluate_through", lambda task, *_: asked.append(task) or _nothing(task))
    space = read_vector_file(*files())
    evaluate_space(space, via="exact")
    ranked = space.shared["ranked"]
    evaluate_space(space, via="qdrant")
    assert asked == [ranked]


def _nothing(task):
    return Through({}, task.exact.top_rows, {})
