"""A table through the import where one address or the file itself is damaged."""

import csv
import gzip
import io
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from vitrine.errors import BadInput
from vitrine.importing import import_dataset


def photo():
    out = io.BytesIO()
    Image.new("RGB", (12, 12), (200, 40, 90)).save(out, "PNG")
    return out.getvalue()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("VITRINE_HOME", str(tmp_path / "home"))
    (tmp_path / "img").mkdir()
    (tmp_path / "img/1.png").write_bytes(photo())
    return tmp_path


def imported(folder, name, content, **options):
    (folder / name).write_bytes(content)
    return import_dataset("table", folder / name, "shop", folder / "data/shop", options)


def remarks(folder):
    with (folder / "data/shop/import-report.csv").open(encoding="utf-8-sig", newline="") as stream:
        return list(csv.DictReader(stream))


def test_one_address_that_is_none_costs_its_own_row(folder):
    table = b"id,image,label\n1,http://[old,cup\n2,img/1.png,cup\n3,htp://x.example/a.png,cup\n4,img/\0.png,cup\n"
    report = imported(folder, "shop.csv", table, max_rejected=0.9)
    assert report.items == 1
    assert {line["row"] for line in remarks(folder) if line["severity"] == "rejected"} == {"2", "4", "5"}


def test_line_ends_of_old_macs_are_refused_in_one_sentence(folder):
    with pytest.raises(BadInput, match=r"the first line of .* names no columns: new-line character"):
        imported(folder, "shop.csv", b"id,image,label\r1,img/1.png,cup\r")


def test_a_gzipped_table_that_breaks_off_is_refused(folder):
    chance = random.Random(0)
    whole = gzip.compress("".join(f"{n},img/1.png,cup{chance.random()}\n" for n in range(9000)).encode())
    with pytest.raises(BadInput, match=r"cannot be read to its end .* export or copy it again"):
        imported(folder, "shop.csv.gz", whole[: len(whole) // 2])
    assert not (folder / "data/shop").exists()


def test_a_parquet_file_with_a_damaged_block_is_refused(folder):
    chance = random.Random(0)
    names = [f"{chance.random()}" for _ in range(5000)]
    table = pa.table({"id": names, "image": ["img/1.png"] * 5000, "label": names})
    pq.write_table(table, folder / "whole.parquet", row_group_size=1000, compression="zstd")
    data = bytearray((folder / "whole.parquet").read_bytes())
    middle = len(data) // 2
    data[middle : middle + 3000] = b"\7" * 3000
    with pytest.raises(BadInput, match=r"cannot be read to its end .* export or copy it again"):
        imported(folder, "shop.parquet", bytes(data))
    assert not (folder / "data/shop").exists()
