"""Options that several verbs share: which recipe values a person may set by a flag of its own."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from swclip.errors import ConfigError, InputError

if TYPE_CHECKING:
    from swclip.gallery.filters import EntryFilter
    from swclip.retrieval.prior import Prior


@Parameter(name="*")
@dataclass(frozen=True)
class RecipeOptions:
    """Values that replace a recipe's."""

    image_tower: str | None = None
    "A name on the model hub, a local folder, or builtin:small."
    text_tower: str | None = None
    "The same for the text side, or `none`."
    location: Literal["grid", "cells", "template", "fourier"] | None = None
    "How a position becomes an embedding. `fourier` reads no text."
    freeze: Literal["image", "none"] | None = None
    "`image` keeps the image tower as it is: its features are computed once and kept on disk."
    steps: int | None = None
    "Optimizer steps."
    batch_size: int | None = None
    "Photographs in a batch, of all processes together."
    size_px: int | None = None
    "Side of the picture the image tower sees, pixels."
    assignments: Annotated[list[str] | None, Parameter(name="--set")] = None
    "Any other value of the recipe, such as --set objective.neighbourhood.weight=0.5."

    def overrides(self, **more: Any) -> dict[str, Any]:
        """What `load_recipe` takes; `more` are further values by dotted key, `__` for the dot, None for not given."""
        from swclip.training.config import assigned, nested

        text_tower = "none" if self.location == "fourier" and self.text_tower is None else self.text_tower
        values: dict[str, Any] = {
            "model.image.tower": self.image_tower,
            "model.image.size_px": self.size_px,
            "model.location.text_tower": text_tower,
            "model.location.form": self.location,
            "freeze_image": None if self.freeze is None else self.freeze == "image",
            "steps": self.steps,
            "batch.size": self.batch_size,
            **{key.replace("__", "."): value for key, value in more.items()},
        }
        given = {key: value for key, value in values.items() if value is not None}
        return nested({**given, **assigned(self.assignments or [])})


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

    from swclip.geo.areas import read_area
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


@Parameter(name="*", negative_iterable=())
@dataclass(frozen=True)
class FilterOptions:
    """Conditions, all of which must hold."""

    image_id: list[str] | None = None
    "This photograph; again for further ones."
    city: list[str] | None = None
    "In this city; again for further ones."
    source: list[str] | None = None
    "From this source; again for further ones."
    within: Path | None = None
    "Within the polygons of this GeoJSON file, or on their border."
    near: str | None = None
    "LAT,LON in degrees: within --radius-m of this point (written --near=-33.9,151.2 where it begins with a minus)."
    radius_m: float | None = None
    "Metres round --near."
    since: str | None = None
    "Captured at this date or time (ISO 8601, UTC) or later; entries without a time are not meant."
    until: str | None = None
    "Captured before this date or time."
    only: Literal["photographs", "positions"] | None = None
    "photographs, or positions without one."

    def read(self) -> EntryFilter:
        """The filter; reads the polygons.

        Raises:
            ConfigError: A value cannot be read, or --near and --radius-m do not go together.
            InputError: The polygons cannot be used.
        """
        from swclip.gallery.filters import EntryFilter
        from swclip.geo.areas import read_area

        if (self.near is None) != (self.radius_m is None):
            raise ConfigError("--near and --radius-m go together: a point and the metres round it.")
        return EntryFilter(
            image_ids=self.image_id,
            cities=self.city,
            sources=self.source,
            since=_time("--since", self.since),
            until=_time("--until", self.until),
            within=None if self.within is None else read_area(self.within),
            near=_point(self.near),
            radius_m=self.radius_m,
            photographs=None if self.only is None else self.only == "photographs",
        )


def _time(flag: str, text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"{flag} {text!r}: is no date or time such as 2020-05-01 or 2020-05-01T12:00:00.") from None
    return time if time.tzinfo is None else time.astimezone(UTC).replace(tzinfo=None)


def _point(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    try:
        lat, lon = (float(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(f"--near {text!r}: must be LAT,LON in degrees, such as 51.5074,-0.1278.") from None
    return lat, lon
