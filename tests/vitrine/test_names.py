from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitrine.errors import BadInput
from vitrine.names import PRODUCTION, Ref, check_alias, check_name, collection_name, parse_ref

words = st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=1, max_size=7)
names = st.lists(words, min_size=1, max_size=5).map("-".join)
aliases = names.filter(lambda text: not text.isdecimal())
refs = st.one_of(
    st.builds(Ref, names),
    st.builds(Ref, names, version=st.integers(1, 999_999_999)),
    st.builds(Ref, names, alias=aliases),
)


@given(refs)
def test_a_reference_reads_back_as_it_was_printed(ref: Ref) -> None:
    assert parse_ref(str(ref)) == ref


@given(st.text(max_size=60))
def test_any_text_is_a_reference_that_prints_and_reads_the_same_or_bad_input(text: str) -> None:
    try:
        ref = parse_ref(text)
    except BadInput:
        return
    assert parse_ref(str(ref)) == ref


@given(names, names, st.integers(1, 99), names, names, st.integers(1, 99))
def test_different_catalogues_models_or_versions_never_share_a_collection(a, b, i, c, d, j) -> None:
    assert (collection_name(a, b, i) == collection_name(c, d, j)) == ((a, b, i) == (c, d, j))


@pytest.mark.parametrize("text", ["", "Shop", "a--b", "-a", "a-", "a b", "ä", "a\n", "x" * 49, "../etc"])
def test_a_malformed_name_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(BadInput, match="such as 'homeware-search'"):
        check_name(text)


@pytest.mark.parametrize("text", ["shop@0", "shop@00", "shop@" + "9" * 5000])
def test_an_impossible_version_number_is_no_alias_either(text: str) -> None:
    with pytest.raises(BadInput, match="versions are 1, 2, 3"):
        parse_ref(text)


def test_digits_of_other_scripts_are_no_version() -> None:
    with pytest.raises(BadInput, match="no alias"):
        parse_ref("shop@٣")


def test_a_user_cannot_name_production() -> None:
    with pytest.raises(BadInput, match="vitrine promote"):
        check_alias(PRODUCTION)


def test_an_alias_that_reads_as_a_version_is_refused() -> None:
    with pytest.raises(BadInput, match="would read as a version number"):
        check_alias("7")
