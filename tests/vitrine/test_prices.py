"""Money of a stage: one price for every device, or a table by a word of its name."""

from __future__ import annotations

import pytest

from vitrine.errors import BadInput
from vitrine.prices import price

TABLE = {"cpu": 0.2, "H100": 2.5}


def test_one_price_holds_for_every_device() -> None:
    assert price(1800, "cpu", 0.2) == price(1800, "NVIDIA L4", 0.2) == pytest.approx(0.1)


def test_a_table_is_read_by_a_word_of_the_device_name() -> None:
    assert price(3600, "NVIDIA H100 80GB HBM3", TABLE) == 2.5


def test_a_device_that_the_table_lacks_has_no_price() -> None:
    assert price(3600, "NVIDIA L4", TABLE) is None


@pytest.mark.parametrize("wrong", ["cheap", -1, True])
def test_a_price_that_is_no_number_from_0_is_refused(wrong: object) -> None:
    with pytest.raises(BadInput, match="give a number from 0, or numbers by a word of the device's name"):
        price(3600, "cpu", {"cpu": wrong})
