"""Which column of a table is which field: as told, else guessed from the usual names in several languages."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vitrine.errors import BadInput

# Per field, compared without case, accents and punctuation; the first that a table has is taken.
NAMES: Mapping[str, tuple[str, ...]] = {
    "item_id": (
        *("itemid", "id", "listingid", "offerid", "variantid", "sku", "articleid", "articlenumber", "reference"),
        *(
            "artikelnummer",
            "artikelnr",
            "artnr",
            "artikelid",
            "bestellnummer",
            "numeroarticle",
            "codigo",
            "codice",
            "kod",
        ),
    ),
    "images": (
        *(
            "images",
            "image",
            "imageurl",
            "imageurls",
            "imagelink",
            "imagepath",
            "mainimage",
            "photo",
            "photos",
            "photourl",
        ),
        *(
            "picture",
            "pictures",
            "pictureurl",
            "filename",
            "filepath",
            "bild",
            "bilder",
            "bildurl",
            "bildlink",
            "bilddatei",
        ),
        *("foto", "fotos", "fotourl", "imagen", "imagenes", "immagine", "immagini", "zdjecie", "zdjecia", "afbeelding"),
        *("additionalimagelink", "additionalimagelinks", "imageslinks", "weiterebilder", "zusatzbild"),
    ),
    "label": ("label", "class", "classname", "klasse", "classe", "clase"),
    "category": (
        *(
            "category",
            "categories",
            "categorypath",
            "categoryname",
            "producttype",
            "googleproductcategory",
            "kategorie",
        ),
        *("kategorien", "kategoriepfad", "warengruppe", "categoria", "categorias", "categorie", "kategoria"),
    ),
    "product_id": (
        *("productid", "product", "parentid", "parentsku", "itemgroupid", "groupid", "masterid", "modelid"),
        *("produktid", "produktnummer", "produktnr", "hauptartikel", "idproduit", "idproducto", "idprodotto"),
    ),
    "title": (
        *("title", "name", "productname", "itemname", "producttitle", "titel", "produktname", "bezeichnung"),
        *("artikelname", "artikelbezeichnung", "titre", "nom", "titulo", "nombre", "titolo", "nome", "nazwa", "naam"),
    ),
    "price": (
        *("price", "saleprice", "currentprice", "unitprice", "preis", "verkaufspreis", "vkpreis", "vk"),
        *("prix", "precio", "preco", "prezzo", "cena", "prijs"),
    ),
    "brand": ("brand", "brandname", "manufacturer", "marke", "hersteller", "marque", "marca", "marka", "merk"),
    "seller": (
        *("seller", "sellerid", "sellername", "merchant", "merchantid", "vendor", "shop", "shopid", "store"),
        *("verkaufer", "haendler", "handler", "anbieter", "vendeur", "vendedor", "venditore", "sprzedawca", "verkoper"),
    ),
    "time": (
        *("time", "timestamp", "date", "created", "createdat", "creationdate", "listedat", "dateadded", "publishedat"),
        *("datum", "erstellt", "erstelltam", "angelegtam", "fecha", "datecreation", "datacreazione"),
    ),
    "split": ("split", "partition", "fold", "set", "subset"),
}
SEVERAL = ("attributes", "numbers")
"""`attributes.colour=Farbe`: one column each, under the name that is given."""

_DECIDING = {"images", "split"}  # always there, and asked for by an option of its own
_HINT = {"images": "the address of the photo", "item_id": "the id of the item"}


@dataclass(frozen=True)
class Columns:
    """Field -> column.

    Attributes:
        images: the columns with photos, main photo first.
        one: every other field that the table has.
        attributes, numbers: name -> column.
        guessed: the fields among them that nobody named.
        unused: columns that mean nothing to the import.
    """

    images: tuple[str, ...]
    one: Mapping[str, str]
    attributes: Mapping[str, str] = field(default_factory=dict)
    numbers: Mapping[str, str] = field(default_factory=dict)
    guessed: frozenset[str] = frozenset()
    unused: tuple[str, ...] = ()

    def notes(self) -> list[str]:
        """What was taken for what, as sentences."""
        pairs = [("images", " + ".join(self.images)), *self.one.items()]
        told = [f"{name} = {column}" for name, column in pairs if name not in self.guessed]
        told += [f"{kind}.{name} = {column}" for kind in SEVERAL for name, column in getattr(self, kind).items()]
        found = [f"{name} = {column}" for name, column in pairs if name in self.guessed]
        lines = [f"columns as told: {', '.join(told)}"] if told else []
        lines += [f"columns guessed: {', '.join(found)}; another one with -o FIELD=COLUMN"] if found else []
        lines += [f"columns not used: {', '.join(self.unused)}"] if self.unused else []
        absent = [name for name in NAMES if name not in self.one and name not in _DECIDING]
        lines += [f"no column for: {', '.join(absent)}; name one with -o FIELD=COLUMN"] if absent else []
        return lines


def find_columns(path: Path, present: Sequence[str], options: Mapping[str, Any]) -> Columns:
    """Assign the columns of a table to fields.

    Args:
        path: of the table, for messages.
        present: its columns.
        options: may name columns: `title=Produktname`, `images=bild1,bild2`, `numbers.weight=Gewicht`;
            an empty value keeps a field from being guessed.

    Raises:
        BadInput: a named column is not there, or none holds the item ids or the photos.
    """
    one = {
        name: _one(path, present, name, str(options[name])) for name in NAMES if options.get(name) and name != "images"
    }
    named = {kind: _named(path, present, kind, options) for kind in SEVERAL}
    images = _images(path, present, str(options["images"])) if options.get("images") else ()
    taken = {*one.values(), *images, *(column for columns in named.values() for column in columns.values())}
    free = [column for column in present if column not in taken]
    guessed = {name: column for name in NAMES if name not in options and (column := _guess(free, name))}
    if "images" not in options:
        images = tuple(column for column in free if _plain(column).rstrip("0123456789") in NAMES["images"])
    guessed.pop("images", None)
    one |= guessed
    for name, there in (("item_id", "item_id" in one), ("images", bool(images))):
        if not there:
            raise BadInput(_missing(path, present, name), field=name)
    used = {*taken, *one.values(), *images}
    return Columns(
        images=images,
        one={name: one[name] for name in NAMES if name in one},
        **named,
        guessed=frozenset(guessed) | ({"images"} if "images" not in options else frozenset()),
        unused=tuple(column for column in present if column not in used),
    )


def _guess(free: Sequence[str], name: str) -> str | None:
    plain = {_plain(column): column for column in reversed(free)}
    return next((plain[usual] for usual in NAMES[name] if usual in plain), None)


def _named(path: Path, present: Sequence[str], kind: str, options: Mapping[str, Any]) -> dict[str, str]:
    keys = [key for key in options if key.startswith(f"{kind}.")]
    return {key.removeprefix(f"{kind}."): _one(path, present, key, str(options[key])) for key in sorted(keys)}


def _images(path: Path, present: Sequence[str], given: str) -> tuple[str, ...]:
    """One column, or several with commas between; a column's own name may hold a comma."""
    if given in present:
        return (given,)
    return tuple(_one(path, present, "images", part.strip()) for part in given.split(","))


def _one(path: Path, present: Sequence[str], name: str, given: str) -> str:
    if given in present:
        return given
    near = difflib.get_close_matches(_plain(given), [_plain(column) for column in present], 1, 0.6)
    hint = next((f"; did you mean -o {name}={column}?" for column in present if near and _plain(column) == near[0]), "")
    raise BadInput(f"{path} has no column {given!r} for {name}; it has: {', '.join(present)}{hint}", field=name)


def _missing(path: Path, present: Sequence[str], name: str) -> str:
    near = [column for column in present if difflib.get_close_matches(_plain(column), NAMES[name], 1, 0.7)]
    example = near[0] if near else "COLUMN"
    return (
        f"{path} has no column that looks like {name}, {_HINT[name]}; "
        f"it has: {', '.join(present)}; say which one it is: -o '{name}={example}'"
    )


def _plain(name: str) -> str:
    decomposed = unicodedata.normalize("NFKD", name.casefold().replace("ß", "ss"))
    return re.sub(r"[^a-z0-9]", "", decomposed)
