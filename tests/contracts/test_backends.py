"""What every backend promises: the same version gives the same numbers, whatever runs it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.factories import CONTEXT, tiny_bundle
from vitrine import plugins
from vitrine.errors import BadInput, Unavailable
from vitrine.progress import quiet

LABELS = ["jug", "mug", "pan"]


def precisions(key):
    try:
        return plugins.load("backends", key).PRECISIONS
    except Unavailable:  # its library is not installed
        return ()


ENGINES = [
    pytest.param((key, precision), id=f"{key}-{precision}", marks=[pytest.mark.slow] if key == "torch-compile" else [])
    for key in plugins.names("backends")
    for precision in precisions(key)
    if (key, precision)
    not in {("torch-compile", "fp16"), ("torch-compile", "bf16")}  # the modules of torch, compiled alike
]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return tiny_bundle(tmp_path_factory.mktemp("b") / "bundle", dim=8, labels=LABELS, texts=True, any_length=True)


@pytest.fixture(scope="module", params=ENGINES)
def engine(request, bundle, tmp_path_factory):
    key, precision = request.param
    module, built = plugins.load("backends", key), None
    try:
        if precision in module.BUILT:
            module.target()
            built = tmp_path_factory.mktemp("engine")
            rows = {"image": pixels(64, seed=1), "text": tokens(64, seed=1)}
            module.build(bundle, precision=precision, folder=built, calibration=rows, track=quiet)
        return module.load(bundle, threads=1, precision=precision, built=built)
    except Unavailable as error:
        pytest.skip(str(error))


def near(engine):
    """How far a value of a unit vector may be off."""
    # int8: ranges were read off other rows, and noise clipped at them moves far.
    return {"fp32": 1e-5, "fp16": 2e-3, "bf16": 2e-2, "int8": 0.15}[engine.precision]


def pixels(count, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


def by_hand(bundle, batch):
    """The tiny graph in numpy, from the weights in its file."""
    import onnx
    from onnx import numpy_helper

    model = onnx.load(bundle.path(bundle.manifest.graphs["image"].file))
    weights = {tensor.name: numpy_helper.to_array(tensor).astype(np.float64) for tensor in model.graph.initializer}
    scaled = batch.astype(np.float64) / 127.5 - 1
    cells = scaled.reshape(len(batch), 4, 8, 4, 8, 3).mean(axis=(2, 4)).transpose(0, 3, 1, 2).reshape(len(batch), -1)
    raw = cells @ weights["w"]
    vectors = raw / np.linalg.norm(raw, axis=1, keepdims=True)
    return vectors, vectors @ weights["w_logits"]


def text_by_hand(bundle, tokens):
    """The tiny text graph in numpy, from the weights in its file."""
    import onnx
    from onnx import numpy_helper

    model = onnx.load(bundle.path(bundle.manifest.graphs["text"].file))
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    places = weights["places"][:, : tokens.shape[1]]
    raw = (weights["table"].astype(np.float64)[tokens] * places).sum(axis=1)
    return raw / np.linalg.norm(raw, axis=1, keepdims=True)


def test_it_names_itself_and_its_precision(engine):
    assert engine.name
    assert engine.precision in ("fp32", "fp16", "bf16", "int8", "fp8")


def test_outputs_have_the_manifests_names_and_shapes(engine, bundle):
    outputs = engine.run("image", {"photo": pixels(3)})
    assert {name: array.shape for name, array in outputs.items()} == {"embedding_out": (3, 8), "logits_out": (3, 3)}


def test_the_numbers_are_those_of_the_graph_done_by_hand(engine, bundle):
    batch = pixels(6)
    outputs, (vectors, logits) = engine.run("image", {"photo": batch}), by_hand(bundle, batch)
    tolerance = near(engine)
    np.testing.assert_allclose(outputs["embedding_out"], vectors, atol=tolerance)
    np.testing.assert_allclose(outputs["logits_out"], logits, atol=10 * tolerance)


@settings(max_examples=10, deadline=None)
@given(count=st.integers(1, 17), seed=st.integers(0, 100))
def test_a_photos_answer_does_not_depend_on_its_batch(engine, count, seed):
    batch = pixels(count, seed)
    together = engine.run("image", {"photo": batch})["embedding_out"]
    alone = np.concatenate(
        [engine.run("image", {"photo": batch[row : row + 1]})["embedding_out"] for row in range(count)]
    )
    np.testing.assert_allclose(together, alone, atol=near(engine))


def test_running_twice_gives_the_same_bits(engine):
    first, second = (engine.run("image", {"photo": pixels(4)})["embedding_out"] for _ in range(2))
    np.testing.assert_array_equal(first, second)


def tokens(count, seed=0, length=CONTEXT):
    return np.random.default_rng(seed).integers(1, 28, (count, length), dtype=np.int64)


def test_a_text_graph_runs_beside_the_image_graph(engine, bundle):
    found = engine.run("text", {"tokens": tokens(6)})
    assert {name: array.shape for name, array in found.items()} == {"embedding_out": (6, 8)}
    tolerance = near(engine)
    np.testing.assert_allclose(found["embedding_out"], text_by_hand(bundle, tokens(6)), atol=tolerance)


@pytest.mark.parametrize("length", [8, 9, CONTEXT])
def test_a_text_graph_of_any_length_runs_short_texts_without_padding(engine, bundle, length):
    short = tokens(6, length=length)
    padded = np.pad(short, ((0, 0), (0, CONTEXT - length)))
    cut, whole = (engine.run("text", {"tokens": rows})["embedding_out"] for rows in (short, padded))
    np.testing.assert_allclose(cut, whole, atol=near(engine))
    np.testing.assert_allclose(cut, text_by_hand(bundle, short), atol=near(engine))


@settings(max_examples=10, deadline=None)
@given(count=st.integers(1, 17), seed=st.integers(0, 100))
def test_a_texts_answer_does_not_depend_on_its_batch(engine, count, seed):
    batch = tokens(count, seed)
    together = engine.run("text", {"tokens": batch})["embedding_out"]
    alone = np.concatenate(
        [engine.run("text", {"tokens": batch[row : row + 1]})["embedding_out"] for row in range(count)]
    )
    np.testing.assert_allclose(together, alone, atol=near(engine))


@pytest.mark.parametrize("key", [key for key in plugins.names("backends") if precisions(key)])
def test_a_precision_that_it_does_not_run_is_refused_with_those_it_does(key, bundle):
    with pytest.raises((BadInput, Unavailable)) as refused:
        plugins.load("backends", key).load(bundle, threads=1, precision="fp4")
    assert isinstance(refused.value, Unavailable) or plugins.load("backends", key).PRECISIONS[0] in str(refused.value)


@pytest.mark.parametrize("key", [key for key in plugins.names("backends") if precisions(key)])
def test_what_needs_building_is_among_what_it_runs(key):
    module = plugins.load("backends", key)
    assert module.PRECISIONS
    assert set(module.BUILT) <= set(module.PRECISIONS)
    assert set(module.worthwhile()) <= set(module.PRECISIONS)
