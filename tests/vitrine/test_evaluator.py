import dataclasses
import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.catalogue import DEFAULT, WITHIN, tiny_dataset
from tests.factories import tiny_bundle
from vitrine.embedding import EmbeddedDataset
from vitrine.encoder import load_encoder
from vitrine.errors import BadInput, Unavailable, Unsupported
from vitrine.evaluation import evaluation_to_json, write_evaluation
from vitrine.evaluator import evaluate, evaluate_all
from vitrine.items import EvalProtocol

LABELS = ["jug", "mug", "pan"]
BY_PRODUCT = EvalProtocol("same-product", query=("test",), gallery=("test",), relevance="product_id")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return tiny_bundle(tmp_path_factory.mktemp("v") / "bundle", labels=LABELS, dim=16)


@pytest.fixture(scope="module")
def encoder(bundle):
    return load_encoder(bundle, threads=1)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return tiny_dataset(tmp_path_factory.mktemp("d") / "shop", splits=(("train", 8), ("val", 3), ("test", 6)))


@pytest.fixture(scope="module")
def everything(bundle, dataset):
    return evaluate_all(bundle, dataset, threads=1, qdrant_url="")


def ranked_by_hand(encoder, dataset, protocol):
    """For each query the gallery items, best first, without itself."""
    embedded = EmbeddedDataset(encoder, dataset)
    queries, gallery = dataset.split(*protocol.query), dataset.split(*protocol.gallery)
    vectors = embedded.vectors(gallery)
    for item, query in zip(queries, embedded.vectors(queries), strict=True):
        order = sorted(range(len(gallery)), key=lambda row: (-float(vectors[row] @ query), row))
        yield item, [gallery[row] for row in order if gallery[row].item_id != item.item_id]


@pytest.mark.parametrize(("stem", "protocol"), [("exact", DEFAULT), ("exact--within", WITHIN)])
def test_metrics_are_those_counted_by_hand(everything, encoder, dataset, stem, protocol):
    first, best5 = [], []
    for item, ranking in ranked_by_hand(encoder, dataset, protocol):
        right = [other.label == item.label for other in ranking]
        first.append(right[0])
        reach = min(5, sum(right))
        best5.append(sum(right[:reach]) / reach)
    assert everything[stem].metrics["mr@1"] == pytest.approx(np.mean(first))
    assert everything[stem].metrics["mmp@5"] == pytest.approx(np.mean(best5))


def test_a_query_never_matches_itself(everything):
    for row in everything["exact--within"].per_query.to_pylist():
        assert row["query_id"] not in row["hits"]


def test_there_is_one_evaluation_a_protocol_and_one_through_qdrant(everything):
    assert list(everything) == ["exact", "exact--within", "qdrant"]
    assert [(one.protocol, one.via) for one in everything.values()] == [
        ("default", "exact"),
        ("within", "exact"),
        ("default", "qdrant"),
    ]


def test_metrics_are_the_means_of_the_per_query_columns(everything):
    for evaluation in everything.values():
        table = evaluation.per_query
        for name in set(evaluation.metrics) & set(table.column_names):
            assert evaluation.metrics[name] == pytest.approx(np.nanmean(table.column(name).to_numpy()))
        for kind in ("own", "knn", "probe"):
            if f"{kind}_correct" in table.column_names:
                correct = table.column(f"{kind}_correct").to_numpy(zero_copy_only=False)
                assert evaluation.metrics[f"{kind}/accuracy"] == pytest.approx(correct.mean())


def test_every_metric_lies_in_its_interval(everything):
    for evaluation in everything.values():
        assert evaluation.intervals
        for name, interval in evaluation.intervals.items():
            assert interval.low <= evaluation.metrics[name] <= interval.high


def test_per_query_rows_say_what_was_asked_and_found(everything, dataset):
    table = everything["exact"].per_query
    assert table.column_names[:6] == ["query_id", "unit", "unit_kind", "label", "title", "hits"]
    assert table.column("query_id").to_pylist() == [item.item_id for item in dataset.split("test")]
    assert all(len(hits) == 10 for hits in table.column("hits").to_pylist())


def test_qdrant_leaves_the_query_out_where_it_is_in_the_gallery(encoder, dataset):
    found = evaluate(encoder, dataset, "within", "qdrant", qdrant_url="")
    exact = evaluate(encoder, dataset, "within", "exact")
    for row in found.per_query.to_pylist():
        assert row["query_id"] not in row["hits"]
    assert found.metrics["mmp@5"] == pytest.approx(exact.metrics["mmp@5"])


def test_products_are_the_unit_where_every_query_has_one(encoder, tmp_path):
    dataset = tiny_dataset(tmp_path / "shop", splits=(("train", 4), ("test", 4)), products=True)
    found = evaluate(encoder, dataset)
    assert (found.unit, found.units) == ("product_id", 6)
    assert set(found.per_query.column("unit_kind").to_pylist()) == {"product_id"}


def test_relevance_by_product_finds_the_other_photo_of_it(encoder, tmp_path):
    dataset = tiny_dataset(
        tmp_path / "shop", splits=(("test", 5),), products=True, protocols=(BY_PRODUCT,)
    )  # five a label: two pairs and one alone
    found = evaluate(encoder, dataset)
    assert (found.queries, found.skipped) == (15, 3)
    assert found.intervals["mr@1"].queries == 12


def test_classifiers_never_learn_from_the_queries(encoder, tmp_path):
    dataset = tiny_dataset(tmp_path / "shop", protocols=(EvalProtocol("all", ("train", "test"), ("train", "test")),))
    found = evaluate(encoder, dataset)
    assert "knn/accuracy" not in found.metrics
    assert "not applicable" in found.details["classification"]["probe"]


def test_classifiers_do_not_guess_at_classes_that_were_never_trained_on(encoder, tmp_path):
    alone = EvalProtocol("default", ("test",), ("test",))
    dataset = tiny_dataset(tmp_path / "shop", splits=(("train", 4), ("test", 4)), protocols=(alone,))
    unseen = [
        dataclasses.replace(item, label=f"new {item.label}") if item.split == "test" else item for item in dataset.items
    ]
    found = evaluate(encoder, dataclasses.replace(dataset, items=tuple(unseen)))
    assert not {"knn/accuracy", "probe/accuracy"} & set(found.metrics)
    assert found.details["classification"]["probe"] == "not applicable: no query is of a class that was trained on"


def test_queries_of_labels_that_were_never_trained_on_are_counted_in_a_warning(encoder, tmp_path):
    alone = EvalProtocol("default", ("test",), ("test",))
    dataset = tiny_dataset(tmp_path / "shop", splits=(("train", 4), ("test", 4)), protocols=(alone,))
    asked = dataset.split("test")
    label = asked[0].label
    known = tuple(item for item in dataset.items if item.split == "test" or item.label != label)
    found = evaluate(encoder, dataclasses.replace(dataset, items=known))
    unlearned = sum(item.label == label for item in asked)
    assert (
        f"{unlearned} of {len(asked)} queries have a label without training items; knn and probe count them as wrong"
        in found.details["warnings"]
    )


def test_own_answers_are_left_out_where_the_label_sets_differ(tmp_path, dataset):
    other = load_encoder(tiny_bundle(tmp_path / "b", labels=["jug", "lamp"]), threads=1)
    found = evaluate(other, dataset)
    assert "own/accuracy" not in found.metrics
    assert found.details["classification"]["own"] == "not applicable: 2 of 3 labels are unknown to the version"
    assert "knn/accuracy" in found.metrics


def test_own_accuracy_is_that_of_the_largest_logit(everything, encoder, dataset):
    embedded = EmbeddedDataset(encoder, dataset)
    items = dataset.split("test")
    answers = [LABELS[column] for column in embedded.probabilities(items).argmax(axis=1)]
    right = np.mean([answer == item.label for answer, item in zip(answers, items, strict=True)])
    assert everything["exact"].metrics["own/accuracy"] == pytest.approx(right)


def test_health_has_what_the_gate_asks_for(everything):
    needed = {"finite", "norm_min", "norm_max", "effective_rank", "mean_cosine", "duplicate_share"}
    assert needed <= set(everything["exact"].details["health"])


def test_evaluating_again_gives_the_same_figures(everything, bundle, dataset):
    again = evaluate_all(bundle, dataset, threads=1, qdrant_url="")
    for stem, evaluation in again.items():
        one, two = evaluation_to_json(evaluation), evaluation_to_json(everything[stem])
        one["details"].pop("timing")
        two["details"].pop("timing")
        assert one == two
        assert evaluation.per_query.equals(everything[stem].per_query)


def test_files_hold_the_whole_evaluation(everything, tmp_path):
    evaluation = everything["exact"]
    write_evaluation(tmp_path, "exact", evaluation, "homeware", 3, "d" * 64)
    value = json.loads((tmp_path / "exact.json").read_text())
    assert (value["model"], value["version"], value["metrics"]) == ("homeware", 3, evaluation.metrics)
    assert value["unit"] == "label"
    assert pq.read_table(tmp_path / "exact.parquet").equals(evaluation.per_query)


def test_unknown_ends_of_intervals_become_null(encoder, tmp_path):
    dataset = tiny_dataset(tmp_path / "shop", labels=("mug",))
    value = evaluation_to_json(evaluate(encoder, dataset))
    assert value["intervals"]["mr@1"] == [None, None]
    json.dumps(value, allow_nan=False)


def test_an_unknown_protocol_lists_the_known_ones(encoder, dataset):
    with pytest.raises(BadInput, match="no protocol 'x'; it has: default, within"):
        evaluate(encoder, dataset, "x")


def test_an_unknown_engine_is_refused(encoder, dataset):
    with pytest.raises(BadInput, match="none of exact, qdrant"):
        evaluate(encoder, dataset, None, "faiss")


def test_an_empty_side_is_refused(encoder, tmp_path):
    dataset = tiny_dataset(tmp_path / "shop", splits=(("test", 3),))
    with pytest.raises(BadInput, match="has 9 queries and 0 gallery items"):
        evaluate(encoder, dataset)


def test_a_protocol_where_nothing_can_be_found_is_refused(encoder, tmp_path):
    dataset = tiny_dataset(tmp_path / "shop", splits=(("test", 1),), protocols=(WITHIN,))
    with pytest.raises(BadInput, match="there is nothing to find"):
        evaluate(encoder, dataset)


def test_a_qdrant_server_that_is_not_there_is_unavailable(encoder, dataset):
    with pytest.raises(Unavailable, match="check that the server runs"):
        evaluate(encoder, dataset, None, "qdrant", qdrant_url="http://127.0.0.1:9")


# --- asking with words ----------------------------------------------------------------------------

BY_TITLE = EvalProtocol("text", query=("test",), gallery=("train",), ask_by="title")
BY_TITLE_PRODUCT = EvalProtocol("words", query=("test",), gallery=("test",), relevance="product_id", ask_by="title")


def titled(folder, protocols=(DEFAULT, BY_TITLE, BY_TITLE_PRODUCT)):
    """Two sellers' words a class: test items 0 and 1 share a title, 2 and 3 another, the rest have none."""
    dataset = tiny_dataset(folder, splits=(("train", 5), ("test", 6)), protocols=protocols, products=True)
    items = []
    for item in dataset.items:
        number = int(item.item_id.rsplit("-", 1)[1])
        words = (f"a {item.label}", f"{item.label} by us", "  ")[min(number // 2, 2)]
        items.append(dataclasses.replace(item, title=words))
    return dataclasses.replace(dataset, items=tuple(items))


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    return load_encoder(tiny_bundle(tmp_path_factory.mktemp("v") / "b", dim=16, texts=True), threads=1)


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    return titled(tmp_path_factory.mktemp("d") / "titled")


def test_words_ask_once_a_title_and_blank_titles_never(reader, shop):
    found = evaluate(reader, shop, "text")
    asked = [(row["query_id"], row["title"]) for row in found.per_query.to_pylist()]
    assert asked[:2] == [("jug-test-0", "a jug"), ("jug-test-2", "jug by us")]
    assert len(asked) == found.queries == 6


def test_one_title_for_two_products_asks_for_each_of_them(reader, shop):
    same = tuple(dataclasses.replace(item, title="thing") for item in shop.items)
    found = evaluate(reader, dataclasses.replace(shop, items=same), "words")
    assert found.queries == len({item.product_id for item in shop.split("test")}) == 9


def test_metrics_of_words_are_those_counted_by_hand(reader, shop):
    gallery = shop.split("train")
    vectors = reader.embed([shop.photo(item.images[0]) for item in gallery]).vectors
    first, best5 = [], []
    for label in LABELS:
        for title in (f"a {label}", f"{label} by us"):
            scores = vectors @ reader.embed_texts([title])[0]
            order = sorted(range(len(gallery)), key=lambda row: (-float(scores[row]), row))
            right = [gallery[row].label == label for row in order]
            first.append(right[0])
            best5.append(sum(right[:5]) / 5)
    found = evaluate(reader, shop, "text")
    assert found.metrics["mr@1"] == pytest.approx(np.mean(first))
    assert found.metrics["mmp@5"] == pytest.approx(np.mean(best5))


def test_a_title_does_not_find_the_photo_of_the_item_that_it_stands_for(reader, shop):
    for row in evaluate(reader, shop, "words").per_query.to_pylist():
        assert row["query_id"] not in row["hits"]
        assert len(row["hits"]) == 10


def test_words_are_measured_beside_photos_for_a_version_that_reads_them(reader, shop):
    found = evaluate_all(reader.bundle, shop, threads=1, qdrant_url="")
    assert list(found) == ["exact", "exact--text", "exact--words", "qdrant"]
    assert found["exact--text"].details["classification"]["knn"] == "not applicable: the queries are titles"
    assert "knn/accuracy" in found["exact"].metrics
    assert "knn/accuracy" not in found["exact--text"].metrics


def test_health_under_a_title_protocol_looks_at_the_gallery_alone(reader, shop):
    assert evaluate(reader, shop, "text").details["health"]["items"] == len(shop.split("train"))


def test_words_are_left_out_for_a_version_that_reads_none(bundle, shop):
    assert list(evaluate_all(bundle, shop, threads=1, qdrant_url="")) == ["exact", "qdrant"]


def test_asking_a_version_that_reads_none_by_title_says_what_to_do(encoder, shop):
    with pytest.raises(
        Unsupported, match=r"protocol text of dataset shop asks by title, but this version reads no text"
    ):
        evaluate(encoder, shop, "text")


def test_a_title_protocol_without_titles_is_refused(reader, shop):
    bare = tuple(dataclasses.replace(item, title="") for item in shop.items)
    with pytest.raises(BadInput, match="asks by title, and none of its 18 query items has one"):
        evaluate(reader, dataclasses.replace(shop, items=bare), "text")


def test_words_go_through_qdrant_too(reader, shop):
    found = evaluate(reader, shop, "text", "qdrant", qdrant_url="")
    assert found.details["recall_against_exact@10"] == pytest.approx(1.0)
    assert found.queries == 6


def test_evaluating_words_twice_gives_the_same_record(reader, shop):
    first, second = (evaluate(reader, shop, "text").record for _ in range(2))
    assert first == second
