"""Titles run without most of their padding: the same vectors, in the same order."""

from __future__ import annotations

import dataclasses

import numpy as np
import open_clip
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.factories import CONTEXT, photo, tiny_bundle
from vitrine import plugins
from vitrine.encoder import Encoder, load_encoder
from vitrine.errors import Refused
from vitrine.export import export_version
from vitrine.families.open_clip import TextModule
from vitrine.manifest import Licences
from vitrine.ports import BackboneSpec
from vitrine.progress import quiet
from vitrine.quantize import WAYS
from vitrine.text_lengths import lengths_of, run_by_length
from vitrine.tokenize import load_tokenizer

TOWER = {"width": 64, "heads": 2, "layers": 3, "vocab_size": 49408}
WORDS = st.lists(st.sampled_from(["mug", "blue", "ceramic", "!", "2", "l", "Wanderstiefel"]), max_size=90)


def tower(custom=False, dim=32, **changed):
    """A text tower of the shape of ViT-S's, smaller, with random weights."""
    torch.manual_seed(3)
    vision = {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16}
    kind = open_clip.CustomTextCLIP if custom else open_clip.CLIP
    return TextModule(kind(dim, vision, {**TOWER, **changed})).eval()


def features(module, tokens):
    with torch.no_grad():
        return torch.nn.functional.normalize(module(torch.from_numpy(tokens)), dim=1).numpy()


@pytest.fixture(scope="module")
def pair():
    return plugins.load("families", "open-clip").load(BackboneSpec("open-clip", "vitrine-mini", "random"))


def export(folder, pair):
    photos = [photo(n) for n in range(3)]
    return export_version(folder, pair, photos=photos, licences=Licences("Apache-2.0", "CC0-1.0"), lineage={})


@pytest.fixture(scope="module")
def bundle(pair, tmp_path_factory):
    return export(tmp_path_factory.mktemp("mini") / "bundle", pair)


@pytest.fixture(scope="module", params=["onnxruntime", "torch"])
def mini(request, bundle):
    return load_encoder(bundle, backend=request.param, threads=1)


@pytest.fixture(scope="module")
def whole(pair):
    """What torch gives for all tokens of the context."""
    return lambda tokens: features(pair.text.module, tokens)


class Watched:
    """An engine that notes the shapes that its text graph is asked for."""

    def __init__(self, engine):
        self.engine, self.shapes = engine, []
        self.name, self.precision = engine.name, engine.precision

    def run(self, graph, inputs):
        self.shapes += [tokens.shape for tokens in inputs.values()] if graph == "text" else []
        return self.engine.run(graph, inputs)


def watched(bundle):
    encoder = load_encoder(bundle, threads=1)
    encoder.engine = Watched(encoder.engine)
    return encoder


# --- towers -----------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(words=WORDS, custom=st.booleans(), pool=st.sampled_from(["argmax", "eos"]), extra=st.integers(0, 77))
def test_padding_does_not_change_the_features_of_a_causal_tower(words, custom, pool, extra):
    tokens = clip_tokens([" ".join(words), "jug"])
    real = int((tokens != 0).sum(axis=1).max())
    module = towers()[custom, pool]
    cut = features(module, tokens[:, : min(77, real + extra)])
    np.testing.assert_allclose(cut, features(module, tokens), atol=1e-5)


def towers(made={}):  # noqa: B006  # made once
    if not made:
        made |= {
            (custom, pool): tower(custom, pool_type=pool, eos_id=49407)
            for custom in (False, True)
            for pool in ("argmax", "eos")
        }
    return made


def clip_tokens(texts):
    return open_clip.tokenizer.SimpleTokenizer(context_length=77)(texts).numpy()


@pytest.mark.parametrize(
    ("changed", "cuts"),
    [
        ({}, True),
        ({"pool_type": "eos", "eos_id": 49407}, True),
        ({"pool_type": "eos", "eos_id": 0}, False),  # padding is an end token there
        ({"pool_type": "last"}, False),
        ({"pool_type": "first"}, False),
        ({"no_causal_mask": True}, False),
        ({"no_causal_mask": True, "pool_type": "last", "proj_bias": True}, False),  # SigLIP's
        ({"embed_cls": True}, False),  # CoCa's
    ],
    ids=str,
)
def test_only_towers_that_ignore_padding_may_cut_it(changed, cuts):
    assert tower(custom=True, **changed).cuts(padding=0) is cuts


def test_a_padding_token_that_could_be_taken_for_the_end_is_never_cut():
    assert not tower().cuts(padding=49407)


@pytest.mark.parametrize("changed", [{}, {"pool_type": "last"}, {"no_causal_mask": True}], ids=str)
def test_a_tower_answers_as_open_clip_does_at_its_context_length(changed):
    module, tokens = tower(custom=True, **changed), clip_tokens(["a blue mug", "jug"])
    with torch.no_grad():
        torch.testing.assert_close(module(torch.from_numpy(tokens)), module.text(torch.from_numpy(tokens)))


# --- exported versions ------------------------------------------------------------------------


def test_a_version_of_a_causal_tower_says_that_its_texts_have_any_length(bundle):
    graph = bundle.manifest.graphs["text"]
    assert graph.inputs[0].shape == ("batch", "length")
    assert lengths_of(graph, 24) == (8, 16, 24)


@settings(max_examples=25, deadline=None)
@given(texts=st.lists(WORDS.map(" ".join), min_size=1, max_size=12))
def test_titles_have_the_vectors_of_the_whole_context_in_their_order(mini, whole, texts):
    np.testing.assert_allclose(mini.embed_texts(texts), whole(mini.tokenize(texts)), atol=1e-5)


@pytest.mark.parametrize("length", [8, 16, 24])
def test_every_length_gives_the_same_vectors(mini, length):
    tokens = mini.tokenize(["mug", "a jug", ""])
    (name,) = (spec.name for spec in mini.manifest.graphs["text"].inputs)
    found = mini.engine.run("text", {name: tokens[:, :length]})["embedding_out"]
    np.testing.assert_allclose(found, mini.embed_texts(["mug", "a jug", ""]), atol=1e-5)


def test_titles_run_at_the_shortest_length_that_covers_them(bundle):
    encoder = watched(bundle)
    encoder.embed_texts(["mug"] * 20 + ["a long title about a blue ceramic mug"] * 20 + ["mug " * 40] * 3)
    assert encoder.engine.shapes == [(20, 8), (20, 16), (3, 24)]


def test_texts_are_made_ready_at_every_length(bundle):
    encoder = watched(bundle)
    assert encoder.warm_texts(4).shape == (12, encoder.manifest.dim)
    assert encoder.engine.shapes == [(4, 8), (4, 16), (4, 24)]


def test_a_tower_that_needs_its_padding_is_exported_with_one_length(pair, tmp_path):
    module = tower(custom=True, dim=pair.dim, no_causal_mask=True, pool_type="last", context_length=24)
    text = dataclasses.replace(pair.text, module=module, any_length=module.cuts(0))
    fixed = export(tmp_path / "b", dataclasses.replace(pair, text=text))
    encoder = watched(fixed)

    assert fixed.manifest.graphs["text"].inputs[0].shape == ("batch", 24)
    wanted = features(module, encoder.tokenize(["mug", "a jug"]))
    np.testing.assert_allclose(encoder.embed_texts(["mug", "a jug"]), wanted, atol=1e-5)
    assert encoder.engine.shapes == [(2, 24)]


def test_a_tower_that_only_claims_to_ignore_padding_is_refused(pair, tmp_path):
    class Mean(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.table = torch.nn.Embedding(49408, pair.dim)

        def forward(self, tokens):
            return self.table(tokens).mean(dim=1) + self.table(tokens[:, -1])

    wrong = dataclasses.replace(pair, text=dataclasses.replace(pair.text, module=Mean().eval()))
    with pytest.raises(Refused, match=r"the exported text graph \(8 tokens\) differs from torch"):
        export(tmp_path / "b", wrong)
    assert list(tmp_path.iterdir()) == []


def test_a_version_of_one_length_runs_as_before(tmp_path):
    encoder = watched(tiny_bundle(tmp_path / "b", texts=True))
    encoder.embed_texts(["mug", "a"])
    assert encoder.engine.shapes == [(2, CONTEXT)]
    assert encoder.cut(encoder.tokenize(["a"])).shape == (1, CONTEXT)


@pytest.mark.parametrize("way", WAYS)
def test_an_int8_engine_calibrated_on_short_texts_runs_at_every_length(bundle, tmp_path, monkeypatch, way):
    monkeypatch.setattr("vitrine.quantize.WAYS", {way: WAYS[way]})  # else the quickest of the moment
    exact, backend = load_encoder(bundle, threads=1), plugins.load("backends", "onnxruntime")
    titles = [f"{colour} {thing} {n}" for colour in ("red", "blue") for thing in ("mug", "jug") for n in range(8)]
    tokens = exact.cut(exact.tokenize(titles))
    pixels = np.random.default_rng(0).integers(0, 256, (4, 96, 96, 3), dtype=np.uint8)
    backend.build(bundle, precision="int8", folder=tmp_path, calibration={"image": pixels, "text": tokens}, track=quiet)
    int8 = Encoder(bundle, backend.load(bundle, threads=1, precision="int8", built=tmp_path))

    assert tokens.shape == (32, 8)
    wanted = exact.embed_texts(titles)
    for length in (8, 16, 24):
        found = int8.engine.run("text", {"tokens": exact.tokenize(titles)[:, :length]})["embedding_out"]
        assert (found * wanted).sum(axis=1).min() > 0.95


# --- grouping ---------------------------------------------------------------------------------


@given(real=st.lists(st.integers(0, 77), max_size=80))
def test_no_text_is_ever_cut_and_all_keep_their_places(real):
    lengths, seen = (8, 16, 32, 77), []
    tokens = np.where(np.arange(77) < np.array(real, int).reshape(-1, 1), np.arange(len(real)).reshape(-1, 1) + 1, 0)

    def run(rows):
        seen.append(rows.shape)
        return np.stack([rows.sum(axis=1), rows.max(axis=1, initial=0)], axis=1).astype(np.float32)

    found = run_by_length(tokens, np.array(real, np.int64), lengths, run)
    np.testing.assert_array_equal(found[:, 0], tokens.sum(axis=1))
    assert all(length in lengths for _, length in seen)
    assert sum(count for count, _ in seen) == len(real)
    assert len(seen) <= len(lengths)


@pytest.mark.parametrize(
    ("real", "shapes"),
    [
        ([5, 12], [(2, 16)]),  # a run of its own costs more than eight tokens of padding
        ([5, 77], [(1, 8), (1, 77)]),
        ([5] * 9 + [12] * 9, [(9, 8), (9, 16)]),
        ([8, 16, 32, 77, 9], [(3, 16), (1, 32), (1, 77)]),
    ],
)
def test_a_few_short_texts_go_along_with_the_next_longer_ones(real, shapes):
    seen = []

    def run(rows):
        seen.append(rows.shape)
        return np.zeros((len(rows), 2), np.float32)

    run_by_length(np.ones((len(real), 77), np.int64), np.array(real), (8, 16, 32, 77), run)
    assert seen == shapes


def test_the_real_length_ends_before_the_padding_and_not_at_a_padding_id_inside(pair):
    tokenizer = load_tokenizer(pair.text.tokenizer)  # 0 pads, and is the id of "!" too
    assert tokenizer.lengths(tokenizer.encode(["", "mug", "! mug !", "mug " * 50])).tolist() == [2, 3, 5, 24]
