"""What machine time costs: `prices` in params.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vitrine.errors import BadInput


def price(seconds: float, device: str, device_hour: Any) -> float | None:
    """What the time costs; None where the device has no price.

    Args:
        seconds: wall time.
        device: as written by the stage, such as `cpu` or `NVIDIA H100 80GB HBM3`.
        device_hour: one price an hour for every device, or prices by a word of the device's name (`H100: 2.5`).

    Raises:
        BadInput: a price that is no number from 0.
    """
    if isinstance(device_hour, Mapping):
        device_hour = next((hour for word, hour in device_hour.items() if str(word).lower() in device.lower()), None)
    if device_hour is None:
        return None
    if isinstance(device_hour, bool) or not isinstance(device_hour, int | float) or device_hour < 0:
        raise BadInput(
            f"prices: device_hour is {device_hour!r} for {device}; give a number from 0, or numbers by a word of the "
            "device's name, such as {cpu: 0.2, H100: 2.5}",
            field="prices",
        )
    return seconds / 3600 * device_hour
