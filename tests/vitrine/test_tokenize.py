"""Tokenizers: the file that travels with a version gives open_clip's own ids."""

from __future__ import annotations

import json
from functools import cache

import numpy as np
import open_clip
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Raw
from tokenizers import models, pre_tokenizers, processors

from vitrine.errors import BadInput, Unavailable
from vitrine.families._open_clip_tokenizer import tokenizer_of
from vitrine.tokenize import clean, load_tokenizer

LENGTH = 24
TEXTS = [
    "",
    "   ",
    "Blue ceramic mug, 300 ml",
    "CAFÉ Crème — naïve",
    "Cafe\u0301",  # an accent of its own
    "It's Anna's; they're here, WE'LL see 'em",
    "“smart” ‘quotes’ ʼn",
    "😀👍🏽 emoji 🫖",
    "100% cotton/linen 12.5cm (2er-Set) [new!] #1",
    "word " * 100,
    "x" * 500,
    "ＬＥＤ　ﬁne ﬄ",
    "&amp;amp; &eacute; &lt;b&gt;",
    "ΣΑΣ ΟΔΟΣ, İstanbul, Größe ß ẞ",
    "日本語のタイトル 한국어 عربى",
    "½ ² ٣ № ™",
    "tab\tline\r\nbreak\u2028end\u00a0nbsp",
    "null\x00 bell\x07 bom\ufeff",
    "snake_case __init__ a\u200bb",
]


@cache
def ours(cleaning="lower"):
    return load_tokenizer(tokenizer_of(config(cleaning), beside=None, online=False))


@cache
def theirs(cleaning="lower"):
    return open_clip.tokenizer.SimpleTokenizer(context_length=LENGTH, clean=cleaning)


def config(cleaning="lower"):
    return {"context_length": LENGTH, "tokenizer_kwargs": {"clean": cleaning}}


@pytest.mark.parametrize("cleaning", ["lower", "whitespace", "canonicalize"])
@pytest.mark.parametrize("text", TEXTS)
def test_a_text_gets_the_ids_that_open_clip_gives_it(text, cleaning):
    np.testing.assert_array_equal(ours(cleaning).encode([text]), theirs(cleaning)([text]).numpy())


@settings(max_examples=300, deadline=None)
@given(st.text(st.characters(max_codepoint=0x24F, exclude_categories=["Cc", "Cs"]), max_size=60))
def test_any_european_text_gets_the_ids_that_open_clip_gives_it(text):
    from ftfy import fix_encoding

    if fix_encoding(text) != text or "&" in text:
        return  # ftfy repairs a wrong encoding, which is not our business
    np.testing.assert_array_equal(ours().encode([text]), theirs()([text]).numpy())


def test_a_text_in_a_wrong_encoding_is_not_repaired():
    assert not np.array_equal(ours().encode(["cafÃ©"]), theirs()(["cafÃ©"]).numpy())


def test_the_word_for_the_end_inside_a_title_does_not_end_it():
    ids = ours().encode(["<end_of_text> mug"])[0]
    end = int(ours().encode([""])[0, 1])
    assert list(ids).count(end) == 1


def test_ids_are_int64_of_one_length_also_for_no_texts_at_all():
    assert ours().encode([]).shape == (0, LENGTH)
    found = ours().encode(["a", "b " * 90])
    assert found.shape == (2, LENGTH) == (2, ours().context_length)
    assert found.dtype == np.int64
    assert found.max() < ours().vocabulary == 49408


def test_half_a_surrogate_pair_is_read_as_a_question_mark():
    np.testing.assert_array_equal(ours().encode(["mug \ud83d"]), ours().encode(["mug ?"]))


def test_entities_are_resolved_even_twice_escaped():
    assert clean("Tom &amp;amp; Jerry&#39;s ﬁt ＡＢ") == "Tom & Jerry's fit AB"


@pytest.mark.parametrize("data", [b"", b"{", b"[1]", b'{"version": "1.0"}', b"\xff\xfe"])
def test_what_is_no_tokenizer_file_is_refused(data):
    with pytest.raises(BadInput, match="this is no tokenizer file of the tokenizers library"):
        load_tokenizer(data)


def test_a_tokenizer_without_padding_is_refused_with_the_way_out():
    raw = words()
    raw.enable_truncation(8)
    with pytest.raises(BadInput, match=r"pads to none and cuts at 8: call enable_padding\(length=L\)"):
        load_tokenizer(raw.to_str().encode())


def test_padding_to_another_length_than_the_cut_is_refused():
    raw = words()
    raw.enable_truncation(8)
    raw.enable_padding(length=9)
    with pytest.raises(BadInput, match="pads to 9 and cuts at 8"):
        load_tokenizer(raw.to_str().encode())


# --- a model's own tokenizer.json (SigLIP) -----------------------------------------------------


def words():
    """A small tokenizer as a hub would hold it: no padding, no cutting, no cleaning, `</s>` at the end."""
    vocabulary = {"<unk>": 0, "</s>": 1, "a": 2, "mug": 3, "blue": 4}
    raw = Raw(models.WordLevel(vocabulary, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    raw.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return raw


def siglip(cleaning="canonicalize"):
    return {"hf_tokenizer_name": "owner/name", "context_length": 6, "tokenizer_kwargs": {"clean": cleaning}}


@pytest.fixture
def beside(tmp_path):
    words().save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"pad_token": {"content": "</s>"}}))
    return tmp_path


def test_a_models_own_tokenizer_gets_open_clips_cleaning_padding_and_cutting(beside):
    tokenizer = load_tokenizer(tokenizer_of(siglip(), beside=beside, online=False))
    texts = ["A  BLUE, “Mug”!", "mug " * 20]
    assert tokenizer.encode(texts).tolist() == [[2, 4, 3, 1, 1, 1], [3, 3, 3, 3, 3, 1]]


def test_a_tokenizer_that_was_written_here_before_is_kept_to_the_byte(beside):
    first = tokenizer_of(siglip(), beside=beside, online=False)
    (beside / "tokenizer.json").write_bytes(first)
    (beside / "tokenizer_config.json").unlink()
    assert tokenizer_of(siglip(), beside=beside, online=False) == first


def test_a_tokenizer_of_the_hub_is_not_fetched_for_random_weights():
    assert tokenizer_of(siglip(), beside=None, online=False) is None


def test_a_tokenizer_that_the_hub_does_not_give_is_one_sentence(monkeypatch):
    def offline(*_, **__):
        raise ConnectionError("offline")

    monkeypatch.setattr("vitrine.families._open_clip_tokenizer.hf_hub_download", offline)
    with pytest.raises(Unavailable, match=r"the tokenizer owner/name could not be fetched from the hub"):
        tokenizer_of(siglip(), beside=None, online=True)


def test_a_padding_token_that_the_tokenizer_lacks_is_named(beside):
    (beside / "tokenizer_config.json").write_text('{"pad_token": "<pad>"}')
    with pytest.raises(BadInput, match="names the padding token '<pad>', which the tokenizer does not hold"):
        tokenizer_of(siglip(), beside=beside, online=False)


def test_a_tokenizer_that_does_not_say_how_it_pads_asks_for_the_file_that_does(beside):
    (beside / "tokenizer_config.json").unlink()
    with pytest.raises(BadInput, match=r"put the model's tokenizer_config\.json beside it"):
        tokenizer_of(siglip(), beside=beside, online=False)


def test_an_unknown_way_of_cleaning_is_refused(beside):
    with pytest.raises(BadInput, match="cleans texts by 'shouting'"):
        tokenizer_of(siglip("shouting"), beside=beside, online=False)


def test_a_tokenizer_that_no_file_can_hold_is_left_out():
    assert tokenizer_of({**siglip(), "tokenizer_mode": "clips"}, beside=None, online=True) is None
