"""Columns of a table: guessed from their names, named by options, and missed with a helpful sentence."""

from pathlib import Path

import pytest

from vitrine.datasets._table_columns import NAMES, find_columns
from vitrine.errors import BadInput

SHOP = Path("shop.csv")


@pytest.mark.parametrize(
    ("present", "expected"),
    [
        (("id", "image", "category"), {"item_id": "id", "category": "category"}),
        (("Artikelnummer", "Bild", "Warengruppe"), {"item_id": "Artikelnummer", "category": "Warengruppe"}),
        (("SKU", "Image Link", "Item Group ID"), {"item_id": "SKU", "product_id": "Item Group ID"}),
        (
            ("código", "Imagen", "Categoría", "Precio"),
            {"item_id": "código", "category": "Categoría", "price": "Precio"},
        ),
        (
            ("reference", "photo", "Catégorie", "prix"),
            {"item_id": "reference", "category": "Catégorie", "price": "prix"},
        ),
        (("kod", "zdjęcie", "kategoria", "cena"), {"item_id": "kod", "category": "kategoria", "price": "cena"}),
        (("id", "image", "Straße"), {"item_id": "id"}),
    ],
)
def test_usual_names_are_known_in_several_languages(present, expected):
    found = find_columns(SHOP, present, {})
    assert found.one == expected
    assert found.images == (present[1],)
    assert found.guessed == {*expected, "images"}


@pytest.mark.parametrize("field", list(NAMES))
def test_every_usual_name_of_a_field_is_taken_for_that_field_only(field):
    for usual in NAMES[field]:
        given = {"item_id": "x"} if field != "item_id" else {}
        given |= {"images": "y"} if field != "images" else {}
        found = find_columns(SHOP, ("x", "y", usual.upper()), given)
        assert found.guessed == {field}
        assert (found.images if field == "images" else (found.one[field],)) == (usual.upper(),)


def test_the_more_usual_name_wins_and_the_other_is_told_as_unused():
    found = find_columns(SHOP, ("sku", "id", "image"), {})
    assert found.one["item_id"] == "id"
    assert found.unused == ("sku",)
    assert "columns not used: sku" in found.notes()


def test_numbered_photo_columns_are_taken_in_their_order():
    assert find_columns(SHOP, ("id", "photo1", "photo2", "photo10", "photosize"), {}).images == (
        "photo1",
        "photo2",
        "photo10",
    )


def test_a_named_column_is_not_guessed_for_another_field():
    found = find_columns(SHOP, ("id", "image", "name"), {"brand": "name"})
    assert found.one == {"item_id": "id", "brand": "name"}
    assert "brand" not in found.guessed


def test_an_empty_option_keeps_a_field_from_being_guessed():
    assert "title" not in find_columns(SHOP, ("id", "image", "title"), {"title": ""}).one


def test_several_photo_columns_and_one_whose_name_holds_a_comma():
    assert find_columns(SHOP, ("id", "a", "b"), {"images": "b, a"}).images == ("b", "a")
    assert find_columns(SHOP, ("id", "a, b", "b"), {"images": "a, b"}).images == ("a, b",)


def test_attributes_and_numbers_have_the_names_that_are_given():
    found = find_columns(SHOP, ("id", "image", "Farbe", "kg"), {"attributes.colour": "Farbe", "numbers.weight": "kg"})
    assert (found.attributes, found.numbers, found.unused) == ({"colour": "Farbe"}, {"weight": "kg"}, ())


def test_the_notes_tell_what_was_told_guessed_unused_and_absent():
    assert find_columns(SHOP, ("id", "image", "name", "depot"), {"title": "name", "seller": ""}).notes() == [
        "columns as told: title = name",
        "columns guessed: images = image, item_id = id; another one with -o FIELD=COLUMN",
        "columns not used: depot",
        "no column for: label, category, product_id, price, brand, seller, time; name one with -o FIELD=COLUMN",
    ]


@pytest.mark.parametrize(
    ("present", "options", "message"),
    [
        (
            ("id", "name"),
            {},
            (
                "shop.csv has no column that looks like images, the address of the photo; "
                "it has: id, name; say which one it is: -o 'images=COLUMN'"
            ),
        ),
        (
            ("Artikel-Nr.:", "Bild-URLs"),
            {"item_id": ""},
            (
                "shop.csv has no column that looks like item_id, the id of the item; "
                "it has: Artikel-Nr.:, Bild-URLs; say which one it is: -o 'item_id=Artikel-Nr.:'"
            ),
        ),
        (
            ("id", "image", "Produktname"),
            {"title": "Produktnam"},
            (
                "shop.csv has no column 'Produktnam' for title; it has: id, image, Produktname; "
                "did you mean -o title=Produktname?"
            ),
        ),
        (
            ("id", "image"),
            {"numbers.weight": "kg"},
            "shop.csv has no column 'kg' for numbers.weight; it has: id, image",
        ),
    ],
)
def test_a_column_that_is_not_there_is_refused_with_the_option_to_give(present, options, message):
    with pytest.raises(BadInput) as refused:
        find_columns(SHOP, present, options)
    assert str(refused.value) == message
