"""Prices, dates, categories and photo lists as shops write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitrine.datasets._table_values import Doubtful, category_of, decimal_mark, number_of, photos_of, text_of, time_of


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1.234,56 €", 1234.56),
        ("€ 1,234.56", 1234.56),
        ("1'234.50", 1234.5),
        ("1’234’567.5", 1234567.5),
        ("1 234,56 EUR", 1234.56),
        ("1\u00a0234,56", 1234.56),
        ("1\u202f234 zł", 1234),
        ("1,234,567", 1234567),
        ("12,-", 12),
        ("CHF 12.–", 12),
        ("12.5", 12.5),
        ("0,999", 0.999),
        ("1234.567", 1234.567),
        (".5", 0.5),
        ("１２,５", 12.5),
        ("-3,50", -3.5),
        ("-€3.50", -3.5),
        (7, 7),
        (7.25, 7.25),
    ],
)
def test_a_price_is_read_whatever_stands_around_it(text, value):
    assert number_of(text) == value


@pytest.mark.parametrize(
    "text", ["", "free", "12-15 €", "2 for 10", "1.23.4", "12 34", "1.2345,6", float("nan"), float("inf")]
)
def test_what_is_not_one_number_is_refused(text):
    with pytest.raises(ValueError):
        number_of(text)


def test_one_mark_before_three_digits_is_doubtful_until_the_column_tells():
    with pytest.raises(Doubtful):
        number_of("1.234")
    assert (number_of("1.234", "."), number_of("1.234", ",")) == (1.234, 1234)
    assert (number_of("1,234", "."), number_of("1,234", ",")) == (1234, 1.234)


@pytest.mark.parametrize(
    ("text", "mark"), [("1,5", ","), ("1.5", "."), ("1.234,5", ","), ("1.234", None), ("5", None), ("x", None)]
)
def test_a_text_gives_its_decimal_mark_away_only_where_it_is_certain(text, mark):
    assert decimal_mark(text) == mark


@given(
    st.integers(0, 10**9),
    st.integers(0, 99),
    st.sampled_from([("{:,}", ","), ("{:}", "")]),
    st.sampled_from(["", " €", " EUR"]),
)
def test_a_formatted_price_is_read_back_in_both_conventions(whole, cents, style, currency):
    english = style[0].format(whole) + f".{cents:02}" + currency
    german = english.translate(str.maketrans(",.", ".,"))
    assert number_of(english) == number_of(german) == float(f"{whole}.{cents:02}")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2025-03-31", "2025-03-31"),
        ("2025-03-31 14:30", "2025-03-31T14:30:00"),
        ("2025-03-31T14:30:00+02:00", "2025-03-31T12:30:00"),
        ("2025-03-31T14:30:00.123Z", "2025-03-31T14:30:00"),
        ("31.3.2025", "2025-03-31"),
        ("01.02.2025 9:05", "2025-02-01T09:05:00"),
        ("31/03/25", "2025-03-31"),
        ("3/31/2025", "2025-03-31"),
        ("2025/03/31", "2025-03-31"),
        ("05/05/2025", "2025-05-05"),
        ("1743424200", "2025-03-31T12:30:00"),
        ("1743424200000", "2025-03-31T12:30:00"),
    ],
)
def test_a_time_becomes_one_text_that_sorts(text, expected):
    assert time_of(text) == expected


@pytest.mark.parametrize("text", ["yesterday", "31.2.2025", "2025-13-01", "1.2.3.4"])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(ValueError):
        time_of(text)


def test_day_and_month_that_cannot_be_told_apart_need_a_word():
    with pytest.raises(Doubtful):
        time_of("03/04/2025")
    assert (time_of("03/04/2025", "dmy"), time_of("03/04/2025", "mdy")) == ("2025-04-03", "2025-03-04")


@pytest.mark.parametrize(
    ("cell", "separator", "expected"),
    [
        ("a.jpg", "", ("a.jpg",)),
        ("a.jpg|b.jpg", "", ("a.jpg", "b.jpg")),
        ("a, large.jpg", "", ("a, large.jpg",)),
        ("https://x/a.jpg,https://x/b.jpg", "", ("https://x/a.jpg", "https://x/b.jpg")),
        ("https://x/a,b.jpg; http://x/c.jpg", "", ("https://x/a,b.jpg", "http://x/c.jpg")),
        ("a.jpg;b.jpg", ";", ("a.jpg", "b.jpg")),
        ('["a.jpg", "b.jpg"]', "", ("a.jpg", "b.jpg")),
        (("a.jpg", "a.jpg", ""), "", ("a.jpg",)),
        (" NULL ", "", ()),
        (None, "", ()),
    ],
)
def test_a_cell_may_hold_several_photos(cell, separator, expected):
    assert photos_of(cell, separator) == expected


@pytest.mark.parametrize(
    ("cell", "separator", "expected"),
    [
        ("Home > Kitchen > Mug", "", ("Home", "Kitchen", "Mug")),
        ("Home>Mug", "", ("Home", "Mug")),
        ("Home / Mug", "", ("Home", "Mug")),
        ("Tops/Shirts", "", ("Tops/Shirts",)),
        ("Tops/Shirts", "/", ("Tops", "Shirts")),
        (("Home", "Mug"), "", ("Home", "Mug")),
        ("Home > ", "", ("Home",)),
        ("", "", ()),
    ],
)
def test_a_category_is_a_path_from_the_root(cell, separator, expected):
    assert category_of(cell, separator) == expected


@pytest.mark.parametrize("nothing", [None, "", "  ", "NULL", "None", "nan", "N/A", "-"])
def test_the_words_for_nothing_are_nothing(nothing):
    assert text_of(nothing) == ""


def test_text_is_trimmed_to_one_line_of_composed_letters():
    assert text_of(" Ta\u0308sse\n  blau ") == "Tässe blau"
