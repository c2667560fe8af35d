import json

import pytest

from tests.catalogue import tiny_dataset
from tests.factories import tiny_bundle
from tests.runner import run_vitrine
from vitrine.home import Home
from vitrine.registry import open_registry


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("project")
    home = Home(root / ".vitrine", f"sqlite:///{root / '.vitrine' / 'registry.db'}", root / "data")
    (root / ".vitrine").mkdir()
    registry = open_registry(home)
    for seed in (1, 2):
        registry.register("mugs", tiny_bundle(root / f"bundle{seed}", dim=64, labels=["jug", "mug", "pan"], seed=seed))
    tiny_dataset(root / "data" / "shop")
    return root


@pytest.fixture(scope="module")
def evaluated(root):
    return [run_vitrine(root, "evaluate", f"mugs@{n}", "--dataset", "shop", "--json") for n in (1, 2)]


def test_evaluate_prints_one_object_with_both_searches(evaluated):
    assert [ran.code for ran in evaluated] == [0, 0]
    exact, through = json.loads(evaluated[0].out)["evaluations"]
    assert (exact["via"], through["via"], exact["model"], exact["version"]) == ("exact", "qdrant", "mugs", 1)
    assert 0 <= exact["metrics"]["mmp@5"] <= 1
    assert json.loads(evaluated[0].out)["metrics"] == exact["metrics"]
    assert through["details"]["graph"] == "hnsw"


def test_evaluate_records_what_it_found(root, evaluated):
    home = Home(root / ".vitrine", f"sqlite:///{root / '.vitrine' / 'registry.db'}", root / "data")
    registry = open_registry(home)
    version = registry.resolve("mugs@1")
    recorded = version.evaluation("shop", "default", "exact")
    assert recorded.metrics == json.loads(evaluated[0].out)["evaluations"][0]["metrics"]
    assert registry.artifacts.has(recorded.per_query)
    assert version.evaluation("shop", "default", "qdrant").details["recall_against_exact@10"] == 1.0


def test_evaluating_again_is_no_new_event(root, evaluated):
    home = Home(root / ".vitrine", f"sqlite:///{root / '.vitrine' / 'registry.db'}", root / "data")
    before = open_registry(home).state().seq
    assert run_vitrine(root, "evaluate", "mugs@1", "--dataset", "shop", "--json").code == 0
    assert open_registry(home).state().seq == before


def test_hardest_queries_and_warnings_are_printed(root, evaluated):
    exact = json.loads(evaluated[0].out)["details"]
    ran = run_vitrine(root, "evaluate", "mugs@1", "--dataset", "shop", "--via", "exact")
    said = " ".join(ran.out.split())
    assert f"Hardest queries: {', '.join(one['query_id'] for one in exact['hardest'][:5])};" in said
    assert "Warning: leakage is unknown: dataset photos, which the version was trained on, is not here." in said


def test_qdrants_settings_are_used_shown_and_not_kept(root, evaluated):
    home = Home(root / ".vitrine", f"sqlite:///{root / '.vitrine' / 'registry.db'}", root / "data")
    before = open_registry(home).state().seq
    given = ("--via", "qdrant", "--hnsw-m", "8", "--hnsw-ef", "32", "--quantization", "scalar", "--oversampling", "3")
    ran = run_vitrine(root, "evaluate", "mugs@1", "--dataset", "shop", *given, "--json")
    assert ran.code == 0
    used = json.loads(ran.out)["details"]["settings"]
    assert [used[name] for name in ("m", "ef", "quantization", "oversampling")] == [8, 32, "scalar", 3.0]
    assert open_registry(home).state().seq == before


def test_the_graphs_findings_are_printed(root):
    ran = run_vitrine(root, "evaluate", "mugs@1", "--dataset", "shop", "--via", "qdrant")
    assert ran.code == 0
    said = " ".join(ran.out.split())
    assert "graph: hnsw over 12 vectors, finds 1.0000 [1.0000, 1.0000] of the exact ten nearest" in said
    assert "Behind a filter that leaves 10%: a filter to 1/10 leaves 1 of 12 rows, at least 20 are needed" in said
    assert "p99" in said


def test_qdrants_settings_without_qdrant_are_bad_input(root):
    ran = run_vitrine(root, "evaluate", "mugs@1", "--dataset", "shop", "--via", "exact", "--hnsw-ef", "32")
    assert ran.code == 2
    assert "--hnsw-ef goes with --via qdrant or --via both" in ran.err


def test_evaluate_shows_a_table_with_intervals(root):
    ran = run_vitrine(root, "evaluate", "mugs@1", "--dataset", "shop", "--protocol", "within", "--via", "exact")
    assert ran.code == 0
    assert "mugs@1 on shop/within: 9 queries" in ran.out
    assert "mmp@5" in ran.out
    assert "resampling 3 units (label)" in ran.out


def test_compare_prints_the_promised_fields(root, evaluated):
    ran = run_vitrine(root, "compare", "mugs@2", "mugs@1", "--dataset", "shop", "--json")
    assert ran.code == 0
    value = json.loads(ran.out)
    assert {"difference", "ci95", "unit", "n_units", "n_queries", "decision"} <= set(value)
    one, two = (json.loads(one.out)["evaluations"][0]["metrics"]["mmp@5"] for one in evaluated)
    assert value["difference"] == pytest.approx(two - one)


def test_compare_says_it_in_words(root, evaluated):
    ran = run_vitrine(root, "compare", "mugs@1", "mugs@2", "--dataset", "shop", "--metric", "map")
    assert ran.code == 0
    assert "map[/R] on shop/default via exact: mugs@1" in ran.out
    assert "95 % interval" in ran.out


def test_the_protocol_evaluated_first_is_not_mistaken_for_the_default(root):
    for number in (1, 2):
        arguments = ("--dataset", "shop", "--via", "exact")
        assert run_vitrine(root, "evaluate", f"mugs@{number}", *arguments, "--protocol", "within").code == 0
        assert run_vitrine(root, "evaluate", f"mugs@{number}", *arguments).code == 0
    ran = run_vitrine(root, "compare", "mugs@1", "mugs@2", "--dataset", "shop", "--json")
    assert json.loads(ran.out)["protocol"] == "default"


def test_comparing_on_a_dataset_nobody_evaluated_names_the_command(root):
    ran = run_vitrine(root, "compare", "mugs@1", "mugs@2", "--dataset", "nowhere")
    assert ran.code == 4
    assert "mugs@1 was not evaluated on nowhere" in ran.err


def test_an_unknown_dataset_is_not_found(root):
    ran = run_vitrine(root, "evaluate", "mugs@1", "--dataset", "nowhere")
    assert ran.code == 4
    assert "shop" in ran.err


def test_an_unknown_version_is_not_found(root):
    ran = run_vitrine(root, "evaluate", "mugs@9", "--dataset", "shop")
    assert ran.code == 4
    assert "no version 9, only: 1, 2" in ran.err


def test_an_unknown_metric_is_bad_input(root, evaluated):
    ran = run_vitrine(root, "compare", "mugs@1", "mugs@2", "--dataset", "shop", "--metric", "magic")
    assert ran.code == 2
    assert "no metric 'magic'" in ran.err


def test_comparing_what_was_never_evaluated_names_the_command(root, evaluated):
    ran = run_vitrine(root, "compare", "mugs@1", "mugs@2", "--dataset", "shop", "--protocol", "nope")
    assert ran.code == 4
    assert "vitrine evaluate mugs@1 --dataset shop --protocol nope" in ran.err
