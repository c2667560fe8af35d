from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from vitrine.errors import BadInput
from vitrine.images import ImageSpec
from vitrine.manifest import FileRef, Graph, Labels, Licences, Manifest, TensorSpec, Tokenizer

paths = st.from_regex(r"[a-z]{1,8}/?[a-z]{1,8}\.(onnx|json)", fullmatch=True)
shas = st.text("0123456789abcdef", min_size=64, max_size=64)
files = st.builds(FileRef, paths, shas, st.integers(0, 10**10))
specs = st.builds(
    TensorSpec,
    st.text(min_size=1, max_size=9),
    st.sampled_from(["image", "tokens", "embedding", "logits"]),
    st.sampled_from(["uint8", "float32"]),
    st.lists(st.one_of(st.just("batch"), st.integers(1, 999)), max_size=4).map(tuple),
)
graphs = st.builds(Graph, files, st.lists(specs, max_size=2).map(tuple), st.lists(specs, max_size=2).map(tuple))
tokenizers = st.builds(Tokenizer, st.just("bpe"), files, st.integers(1, 512))
manifests = st.builds(
    Manifest,
    graphs=st.dictionaries(st.sampled_from(["image", "category", "item"]), graphs, max_size=2),
    dim=st.integers(1, 4096),
    image=st.none() | st.builds(ImageSpec, st.integers(1, 512), st.integers(1, 512), crop_fraction=st.floats(0.1, 1)),
    licences=st.builds(Licences, st.text(max_size=9), st.text(max_size=9)),
    modalities=st.sampled_from([("image",), ("image", "title"), ("title", "numbers")]),
    labels=st.none() | st.builds(Labels, files, st.floats(0.01, 100), st.floats(0, 1)),
    tokenizer=st.none() | tokenizers,
)


@st.composite
def sound_manifests(draw: st.DrawFn) -> Manifest:
    """Any manifest that is allowed: drawn again where two files claim one path."""
    try:
        plain = draw(manifests)
        if draw(st.booleans()):
            return plain
        both = {**plain.graphs, "text": draw(graphs)}
        return replace(plain, graphs=both, tokenizer=draw(tokenizers), modalities=("image", "title"))
    except BadInput:
        reject()


sound = sound_manifests()
quick = settings(max_examples=40)


@quick
@given(sound)
def test_a_manifest_reads_back_equal_with_the_same_digest(manifest: Manifest) -> None:
    back = Manifest.from_json(manifest.to_json())

    assert (back, back.digest, back.to_json()) == (manifest, manifest.digest, manifest.to_json())


@quick
@given(sound)
def test_indentation_and_key_order_do_not_move_the_digest(manifest: Manifest) -> None:
    raw = json.loads(manifest.to_json())
    shuffled = json.dumps(dict(reversed(list(raw.items()))), indent=3)

    assert Manifest.from_json(shuffled).digest == manifest.digest


@quick
@given(sound)
def test_another_dim_is_another_digest(manifest: Manifest) -> None:
    assert replace(manifest, dim=manifest.dim + 1).digest != manifest.digest


def small(**changes: object) -> Manifest:
    file = FileRef("image.onnx", "a" * 64, 10)
    fields: dict = {
        "graphs": {"image": Graph(file, (), ())},
        "dim": 4,
        "image": None,
        "licences": Licences("MIT", "MIT"),
    }
    return Manifest(**{**fields, **changes})


def test_the_digest_is_the_same_on_every_machine() -> None:
    assert small().digest == "9c295dbd140760f0b3baabb7e65d017bb7fb0a4849117ac67b74fd94d1949ea9"


def test_one_and_one_point_nought_are_one_digest() -> None:
    file = FileRef("labels.json", "b" * 64, 3)

    assert small(labels=Labels(file, 1, 0)).digest == small(labels=Labels(file, 1.0, 0.0)).digest
    assert small(image=ImageSpec(8, 8, crop_fraction=1)).digest == small(image=ImageSpec(8, 8)).digest


@pytest.mark.parametrize("temperature", [0, -1, float("nan"), float("inf")])
def test_a_temperature_that_no_softmax_can_use_is_refused(temperature: float) -> None:
    with pytest.raises(BadInput, match="no number over 0"):
        Labels(FileRef("labels.json", "b" * 64, 3), temperature)


@pytest.mark.parametrize("path", ["/etc/passwd", "../x.onnx", "a/../../x", ""])
def test_a_path_outside_the_folder_is_refused(path: str) -> None:
    with pytest.raises(BadInput, match="outside its own folder"):
        small(graphs={"image": Graph(FileRef(path, "a" * 64, 1), (), ())})


def test_a_file_called_like_the_manifest_is_refused() -> None:
    with pytest.raises(BadInput, match="not content"):
        small(graphs={"image": Graph(FileRef("manifest.json", "a" * 64, 1), (), ())})


def test_a_digest_that_is_a_path_is_refused() -> None:
    with pytest.raises(BadInput, match="no sha256"):
        small(graphs={"image": Graph(FileRef("x.onnx", "../" * 20, 1), (), ())})


def test_one_path_with_two_digests_is_refused() -> None:
    two = {name: Graph(FileRef("x.onnx", sha * 64, 1), (), ()) for name, sha in (("image", "a"), ("item", "b"))}
    with pytest.raises(BadInput, match="two different digests"):
        small(graphs=two)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 2}, "schema 2 is unknown here"),
        ({"extra": 1}, "unknown fields: extra"),
        ({"modalities": ["smell"]}, "unknown modalities: smell"),
        ({"licences": {"weights": "MIT"}}, "no version manifest"),
        ({"graphs": []}, "no version manifest"),
    ],
)
def test_a_manifest_of_another_shape_says_what_is_wrong(change: dict, message: str) -> None:
    raw = {**json.loads(small().to_json()), **change}
    with pytest.raises(BadInput, match=message):
        Manifest.from_json(json.dumps(raw))


@quick
@given(st.text(max_size=40) | st.recursive(st.none() | st.integers(), st.lists).map(json.dumps))
def test_any_other_text_is_bad_input(text: str) -> None:
    with pytest.raises(BadInput):
        Manifest.from_json(text)


@pytest.mark.parametrize("lost", [{"tokenizer": None}, {"modalities": ("image",)}])
def test_a_text_graph_without_tokenizer_or_modality_is_refused(lost):
    file = FileRef("text.onnx", "0" * 64, 1)
    whole = Manifest(
        graphs={"text": Graph(file, (), ())},
        dim=8,
        image=None,
        licences=Licences("a", "b"),
        modalities=("title",),
        tokenizer=Tokenizer("tokenizers", FileRef("tokenizer.json", "1" * 64, 1), 24),
    )
    with pytest.raises(BadInput, match="has a text graph; it also needs a tokenizer and the modality title"):
        replace(whole, **lost)
