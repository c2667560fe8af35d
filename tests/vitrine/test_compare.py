import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.factories import tiny_bundle
from vitrine.compare import compare
from vitrine.errors import BadInput, NotFound
from vitrine.home import Home
from vitrine.registry import open_registry


@pytest.fixture
def registry(tmp_path):
    registry = open_registry(Home(tmp_path, f"sqlite:///{tmp_path / 'r.db'}", tmp_path / "data"))
    for seed in (1, 2):
        registry.register("mugs", tiny_bundle(tmp_path / f"b{seed}", seed=seed))
    return registry


@pytest.fixture
def record(registry, tmp_path):
    def write(version, values, *, digest="d", protocol="default", ids=None, units=None, labels=None, column="mmp@5"):
        count = len(values)
        table = pa.table(
            {
                "query_id": ids or [f"q{row}" for row in range(count)],
                "unit": units or [f"u{row // 2}" for row in range(count)],
                "unit_kind": ["product_id"] * count,
                "label": labels or ["jug" if row % 2 else "mug" for row in range(count)],
                "hits": pa.array([[]] * count, pa.list_(pa.string())),
                column: pa.array(values),
            }
        )
        path = tmp_path / "per-query.parquet"
        pq.write_table(table, path)
        registry.record_evaluation(
            "mugs", version, dataset="shop", dataset_digest=digest, protocol=protocol, via="exact",
            metrics={"own/accuracy" if column == "own_correct" else column: float(np.nanmean(values))},
            queries=count, gallery=9, per_query_path=path, details={},
        )  # fmt: skip

    return write


def test_the_difference_is_that_of_the_means(registry, record):
    draw = np.random.default_rng(0)
    a, b = draw.random(40), draw.random(40)
    record(1, a)
    record(2, b)
    found = compare(registry, "mugs@1", "mugs@2", "shop")
    assert found.difference == pytest.approx(a.mean() - b.mean())
    assert (found.value_a, found.value_b) == (pytest.approx(a.mean()), pytest.approx(b.mean()))
    assert found.ci95[0] < found.difference < found.ci95[1]
    assert (found.unit, found.n_units, found.n_queries) == ("product_id", 20, 40)
    assert found.decision == "no difference shown"


def test_a_clear_gain_is_better_and_the_other_way_round_worse(registry, record):
    draw = np.random.default_rng(0)
    worse = draw.random(40) * 0.5
    record(1, worse + 0.3 + draw.random(40) * 0.01)
    record(2, worse)
    assert compare(registry, "mugs@1", "mugs@2", "shop").decision == "better"
    assert compare(registry, "mugs@2", "mugs@1", "shop").decision == "worse"


def test_a_version_does_not_differ_from_itself(registry, record):
    record(1, np.random.default_rng(0).random(10))
    found = compare(registry, "mugs@1", "mugs@1", "shop")
    assert (found.difference, found.ci95) == (0.0, (0.0, 0.0))
    assert found.decision == "no difference shown"


def test_queries_are_paired_by_id_whatever_their_order(registry, record):
    values = np.random.default_rng(0).random(10)
    ids, units, labels = ([f"{kind}{row}" for row in range(10)] for kind in "qul")
    record(1, values, ids=ids, units=units, labels=labels)
    record(2, values[::-1], ids=ids[::-1], units=units[::-1], labels=labels[::-1])
    assert compare(registry, "mugs@1", "mugs@2", "shop").ci95 == (0.0, 0.0)


def test_categories_show_who_lost(registry, record):
    record(1, [1.0, 0.0, 1.0, 0.0])
    record(2, [0.5, 1.0, 0.5, 0.0])
    rows = compare(registry, "mugs@1", "mugs@2", "shop").by_label
    assert [(row.label, row.queries, row.difference) for row in rows] == [("jug", 2, -0.5), ("mug", 2, 0.5)]


def test_queries_with_nothing_to_find_are_left_out_of_both(registry, record):
    record(1, [1.0, float("nan"), 1.0, 0.0])
    record(2, [0.0, float("nan"), 1.0, 0.0])
    found = compare(registry, "mugs@1", "mugs@2", "shop")
    assert found.n_queries == 3
    assert found.difference == pytest.approx(1 / 3)


def test_the_newest_evaluation_counts(registry, record):
    record(1, [0.0] * 6)
    record(1, [1.0] * 6)
    record(2, [0.0] * 6)
    assert compare(registry, "mugs@1", "mugs@2", "shop").difference == 1.0


def test_accuracy_of_the_own_classifier_is_comparable(registry, record):
    record(1, [True, True, False, True], column="own_correct")
    record(2, [True, False, False, False], column="own_correct")
    found = compare(registry, "mugs@1", "mugs@2", "shop", "own/accuracy")
    assert (found.metric, found.difference) == ("own/accuracy", 0.5)


def test_macro_scores_have_no_pairs_to_compare(registry, record):
    record(1, [1.0])
    record(2, [1.0])
    with pytest.raises(BadInput, match="'own/f1_macro' has no value a query"):
        compare(registry, "mugs@1", "mugs@2", "shop", "own/f1_macro")


def test_a_missing_evaluation_says_which_command_makes_it(registry, record):
    record(1, [1.0])
    with pytest.raises(NotFound, match=r"mugs@2 was not evaluated on shop.*vitrine evaluate mugs@2 --dataset shop"):
        compare(registry, "mugs@1", "mugs@2", "shop")


def test_a_missing_protocol_is_named(registry, record):
    record(1, [1.0])
    record(2, [1.0])
    with pytest.raises(NotFound, match="--protocol within --via exact"):
        compare(registry, "mugs@1", "mugs@2", "shop", protocol="within")


def test_evaluations_on_other_contents_are_refused(registry, record):
    record(1, [1.0])
    record(2, [1.0], digest="other")
    with pytest.raises(BadInput, match="different contents of shop; evaluate both again"):
        compare(registry, "mugs@1", "mugs@2", "shop")


def test_evaluations_of_other_queries_are_refused(registry, record):
    record(1, [1.0, 0.0])
    record(2, [1.0, 0.0], ids=["q0", "q9"])
    with pytest.raises(BadInput, match="asked different queries; evaluate both again"):
        compare(registry, "mugs@1", "mugs@2", "shop")


def test_an_unknown_metric_lists_the_known_ones(registry, record):
    record(1, [1.0])
    record(2, [1.0])
    with pytest.raises(BadInput, match="no metric 'magic'; the metrics are mmp@5"):
        compare(registry, "mugs@1", "mugs@2", "shop", "magic")


def test_as_json_writes_unknown_ends_as_null(registry, record):
    record(1, [1.0, 0.0], units=["u", "u"])
    record(2, [0.0, 0.0], units=["u", "u"])
    value = compare(registry, "mugs@1", "mugs@2", "shop").as_json()
    assert value["ci95"] == [None, None]
    assert value["decision"] == "no difference shown"


def test_a_permutation_test_and_what_the_sample_can_show_stand_beside_the_interval(registry, record):
    draw = np.random.default_rng(3)
    b = draw.random(400) * 0.5
    record(1, b + 0.1)
    record(2, b)
    found = compare(registry, "mugs@1", "mugs@2", "shop")
    assert found.p_value < 0.001
    assert found.detectable == pytest.approx(0.0, abs=1e-9)  # every unit gains the same


def test_categories_are_corrected_for_their_number(registry, record):
    draw = np.random.default_rng(4)
    labels = [f"leaf{row % 20}" for row in range(400)]
    gain = np.array([0.5 if label == "leaf0" else 0.0 for label in labels]) * draw.random(400)
    b = draw.random(400) * 0.5
    record(1, b - gain, labels=labels, units=[str(row) for row in range(400)])
    record(2, b + draw.normal(0, 1e-3, 400), labels=labels, units=[str(row) for row in range(400)])
    worst, *others = compare(registry, "mugs@1", "mugs@2", "shop").by_label
    assert worst.label == "leaf0"
    assert worst.p_holm < 0.05 < min(other.p_holm for other in others)


def test_a_category_that_missed_the_rare_losses_is_not_named_for_being_alike(registry, record):
    """Eleven queries of one category all lose the same little bit, where those of others differ by twenty times as much."""
    draw = np.random.default_rng(6)
    labels = ["alike" if row < 11 else f"leaf{row % 10}" for row in range(311)]
    change = np.where(np.arange(311) < 11, -0.02, draw.normal(0, 0.4, 311))
    for number, values in ((1, 0.5 + change), (2, np.full(311, 0.5))):
        record(number, values, labels=labels, units=[str(row) for row in range(311)])
    alike = next(one for one in compare(registry, "mugs@1", "mugs@2", "shop").by_label if one.label == "alike")
    assert alike.difference == pytest.approx(-0.02)
    assert alike.p_holm == 1.0


def test_the_sample_that_a_smaller_difference_needs_is_told(registry, record):
    draw = np.random.default_rng(5)
    record(1, draw.random(200))
    record(2, draw.random(200))
    plain, asked = (compare(registry, "mugs@1", "mugs@2", "shop", detect=size) for size in (None, 0.01))
    assert plain.needed_units is None
    assert asked.needed_units == pytest.approx(asked.n_units * (asked.detectable / 0.01) ** 2, abs=1)


def test_a_difference_of_zero_needs_no_sample(registry, record):
    record(1, [0.1, 0.2])
    record(2, [0.2, 0.1])
    with pytest.raises(BadInput, match="it must be above 0"):
        compare(registry, "mugs@1", "mugs@2", "shop", detect=0.0)
