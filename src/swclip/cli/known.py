"""What is known of a place beforehand, as it is typed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from swclip.errors import ConfigError, InputError

if TYPE_CHECKING:
    from swclip.retrieval.prior import Prior


def prior_of(city: str | None, within: Path | None, near: str | None, radius_m: float | None) -> Prior | None:
    """The prior of `swclip locate`'s options; None where none is given.

    Args:
        city: `--in`.
        within: `--within`, a GeoJSON file.
        near: `--near`, LAT,LON.
        radius_m: `--radius-m`.

    Raises:
        InputError: The area cannot be used, or the position is not two numbers.
        ConfigError: The position is not on the Earth, or of --near and --radius-m only one is given.
    """
    if city is None and within is None and near is None and radius_m is None:
        return None

    from swclip.geo.area import read_area
    from swclip.retrieval.prior import Prior

    if (near is None) != (radius_m is None):
        missing = "--near LAT,LON" if near is None else "--radius-m METRES"
        raise ConfigError(f"--near and --radius-m go together; give {missing} too.")
    return Prior(
        city,
        None if within is None else read_area(within),
        None if near is None else _position(near),
        radius_m,
    )


def _position(text: str) -> tuple[float, float]:
    parts = text.split(",")
    try:
        lat, lon = (float(part) for part in parts)
    except ValueError:
        raise InputError(
            f"--near {text!r}: give latitude and longitude in degrees with a comma between, such as 53.8,-1.55."
        ) from None
    return lat, lon
