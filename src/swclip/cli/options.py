"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from swclip.cli.help import ADVANCED, REPEATED, group, off
from swclip.errors import ConfigError

if TYPE_CHECKING:
    from swclip.connectors.area import RequestedArea
    from swclip.gallery.filters import EntryFilter
    from swclip.imaging.panoramas import ViewOptions
    from swclip.retrieval.prior import Prior
    from swclip.training.config import TrainingConfig


_MODEL = group("Model and training")
_CONDITIONS = group("Conditions on entries")
_AREA = group("Area")
PANORAMAS = group("Panoramas")


def _recipes(value: str) -> Parameter:
    """Of an option whose default is in the recipe: `value` in the recipe sw-clip."""
    return Parameter(show_default=f"the recipe's; sw-clip: {value}")


@Parameter(name="*", group=_MODEL.group)
@dataclass(frozen=True)
class RecipeOptions:
    """Values that override those of a recipe."""

    image_tower: Annotated[list[str] | None, REPEATED, _recipes("builtin:small")] = None
    """Image tower: a name on the model hub such as facebook/dinov2-small, a local folder, FILE.onnx, builtin:street or
    builtin:small. Several are used side by side; these and FILE.onnx must be frozen."""
    freeze: Annotated[Literal["image", "none"] | None, _recipes("none")] = None
    "image: do not train the image tower; its features are computed once and cached on disk."
    steps: Annotated[int | None, _recipes("400")] = None
    "Number of optimizer steps."
    batch_size: Annotated[int | None, _recipes("512")] = None
    "Photographs per batch, over all processes."
    text_tower: Annotated[str | None, ADVANCED, _recipes("builtin:small")] = None
    "Text tower: a name on the model hub, a local folder, builtin:small, or none."
    location: Annotated[Literal["grid", "cells", "template", "fourier"] | None, ADVANCED, _recipes("grid")] = None
    "How a position becomes an embedding; fourier uses no text tower."
    size_px: Annotated[int | None, ADVANCED, _recipes("that of the tower")] = None
    "Side of the input of the image tower, in pixels; with --crop whole, the shorter side."
    crop: Annotated[Literal["auto", "centre", "squash", "whole"] | None, ADVANCED, _recipes("auto")] = None
    """What the image tower sees of a photograph: its central square; all of it, compressed to a square; all of it in
    its shape; auto: what its own preprocessing says."""
    normalisation: Annotated[Literal["imagenet", "clip", "none"] | None, ADVANCED, _recipes("that of the file")] = None
    "How pixels are normalised for FILE.onnx, where the file does not state it; none: values from 0 to 1."
    verify: int | None = None
    "Compare this many of the best candidates with a query in detail, by patch features, where validation queries gain."
    verify_with: Annotated[str | None, ADVANCED] = None
    """Compare them by keypoints instead: a keypoint matching model of transformers, by its name on the model hub (such
    as ETH-CVG/lightglue_superpoint) or its folder. It is slow: each query with each photograph of its candidates."""
    assignments: Annotated[list[str] | None, ADVANCED, Parameter(name="--set", metavar="KEY=VALUE")] = None
    "Any other value of the recipe, such as --set objective.neighbourhood.weight=0.5; can be repeated."

    def config(self, recipe: str, **more: Any) -> TrainingConfig:
        """The configuration of a recipe with these values.

        Args:
            recipe: Its name or file.
            **more: As of `overrides`.

        Raises:
            ConfigError: The recipe or a value is invalid, or `check_frozen` refuses it.
        """
        from swclip.training.config import load_recipe

        self.check_frozen(recipe)
        return load_recipe(recipe, self.overrides(**more))

    def check_frozen(self, recipe: str) -> None:
        """Raise ConfigError if `--freeze image` would keep a tower that nobody chose and that was never trained."""
        from swclip.training.config import load_recipe

        if self.freeze != "image" or "tower" in self.overrides().get("model", {}).get("image", {}):
            return
        if load_recipe(recipe).model.image.tower == "builtin:small":
            raise ConfigError(
                "--freeze image keeps the image tower as it is, and builtin:small is not trained. Add --image-tower: a "
                "name on the model hub (facebook/dinov2-small, facebook/dinov2-base, openai/clip-vit-base-patch32), a "
                "local folder of transformers, or builtin:street (no download; trained on generated cities)."
            )

    def overrides(self, **more: Any) -> dict[str, Any]:
        """The overrides for `load_recipe`, without those that are None.

        Args:
            **more: Further values by dotted key, with `__` for the dot.
        """
        from swclip.training.config import assigned, nested

        text_tower = "none" if self.location == "fourier" and self.text_tower is None else self.text_tower
        values: dict[str, Any] = {
            **self._towers(),
            "model.location.text_tower": text_tower,
            "model.location.form": self.location,
            "freeze_image": None if self.freeze is None else self.freeze == "image",
            "steps": self.steps,
            "batch.size": self.batch_size,
            "verification.candidates": self.verify,
            "verification.matcher": self.verify_with,
            **{key.replace("__", "."): value for key, value in more.items()},
        }
        values = {key: value for key, value in values.items() if value is not None}
        return nested({**values, **assigned(self.assignments or [])})

    def _towers(self) -> dict[str, Any]:
        """The values of the image towers: size and crop of all but ONNX files beside the first, mostly fixed."""
        names = self.image_tower or []
        onnx = [name.lower().endswith(".onnx") for name in names]
        towers = [
            {
                "tower": name,
                "size_px": None if number and graph else self.size_px,
                "crop": None if number and graph else self.crop,
                "normalisation": self.normalisation if graph else None,
            }
            for number, (name, graph) in enumerate(zip(names, onnx, strict=True))
        ]
        if self.normalisation is not None and names and not any(onnx):
            raise ConfigError(f"--normalisation is for ONNX files, and {' '.join(names)} has its own; leave it out.")
        first = towers[0] if towers else {name: getattr(self, name) for name in ("size_px", "crop", "normalisation")}
        values: dict[str, Any] = {f"model.image.{key}": value for key, value in first.items()}
        if towers:
            values["model.image.beside"] = [
                {key: value for key, value in tower.items() if value is not None} for tower in towers[1:]
            ]
        return values


def prior_of(city: str | None, within: Path | None, near: str | None, radius_m: float | None) -> Prior | None:
    """The prior that the options of `swclip locate` describe; None without any.

    Args:
        city: `--in`.
        within: `--within`, a file of polygons.
        near: `--near`, LAT,LON.
        radius_m: `--radius-m`.

    Raises:
        InputError: The area cannot be used.
        ConfigError: The position is not two numbers or not on the Earth, or only one of --near and --radius-m is
            present.
    """
    if city is None and within is None and near is None and radius_m is None:
        return None

    from swclip.geo.areas import read_area
    from swclip.retrieval.prior import Prior

    if (near is None) != (radius_m is None):
        missing = "--near LAT,LON" if near is None else "--radius-m METRES"
        raise ConfigError(f"--near and --radius-m must be used together; add {missing}.")
    return Prior(
        city,
        None if within is None else read_area(within),
        None if near is None else _position(near),
        radius_m,
    )


def _position(text: str) -> tuple[float, float]:
    """The position of --near: two numbers with a comma between, or any pair that tables may have ("53.8N 1.55W")."""
    from swclip.ingest.angles import AngleError, parse_pair
    from swclip.ingest.hemispheres import SignedCoordinates

    parts = text.split(",")
    try:
        lat, lon = (float(part) for part in parts)
        return lat, lon
    except ValueError:
        pass
    try:
        pair = parse_pair(text)
        if pair is None:
            raise AngleError("it is empty")
        pair = pair.latitude_first()
        signed = [SignedCoordinates.of([pair.first], "lat"), SignedCoordinates.of([pair.second], "lon")]
        for coordinate in signed:
            if coordinate.problems:
                raise AngleError(coordinate.problems[0][1])
    except AngleError as error:
        raise ConfigError(f"--near {text!r}: must be LAT,LON in degrees, such as 53.8,-1.55; {error}.") from None
    return float(signed[0].degrees[0]), float(signed[1].degrees[0])


@Parameter(name="*", group=PANORAMAS.group)
@dataclass(frozen=True)
class ViewsOptions:
    """Perspective views of equirectangular panoramas."""

    views: int | None = None
    "Replace each panorama by this many perspective views, at equal steps from north, in OUT/views."
    view_headings: Annotated[list[float] | None, REPEATED] = None
    "Instead of --views: the directions of the views, degrees clockwise from north."
    view_fov: float | None = None
    "Horizontal field of view of the views, degrees (90)."
    view_pitch: float | None = None
    "Elevation of the centre of the views above the horizon, degrees (0)."
    view_size: str | None = None
    "Size of the views, pixels: SIDE or WIDTHxHEIGHT (640)."
    level: Annotated[bool, off("--no-level")] = True
    "Keep the pitch and roll of the camera, as where the panoramas are levelled already."

    def options(self, panoramas: Literal["auto", "gpano", "all"] = "auto") -> ViewOptions | None:
        """The options of the views; None if there are none.

        Args:
            panoramas: Which pictures are panoramas.

        Raises:
            ConfigError: A value is impossible, or options lack the number of views.
        """
        from swclip.imaging.panoramas import ViewOptions

        if self.views is None and self.view_headings is None:
            if self != ViewsOptions() or panoramas != "auto":
                raise ConfigError("options of panoramas need a number of views; add --views 4, or --view-headings.")
            return None
        chosen = {"fov_deg": self.view_fov, "pitch_deg": self.view_pitch}
        values: dict[str, Any] = {name: value for name, value in chosen.items() if value is not None}
        if self.view_size is not None:
            sides = self.view_size.lower().split("x")
            if len(sides) > 2 or not all(side.isdigit() for side in sides):
                raise ConfigError(f"--view-size {self.view_size}: give SIDE or WIDTHxHEIGHT, such as 640 or 640x480.")
            values |= {"width_px": int(sides[0]), "height_px": int(sides[-1])}
        return ViewOptions(self.views, tuple(self.view_headings or ()), level=self.level, panoramas=panoramas, **values)


@Parameter(name="*", group=_AREA.group)
@dataclass(frozen=True)
class AreaOptions:
    """The area that a service is asked for, in one of four forms."""

    area: str | None = None
    """File of polygons: GeoJSON, GeoPackage, Shapefile or another that GDAL reads (a layer is FILE|layername=NAME).
    With --geocoder also the name of a place, such as "Leeds, England"."""
    bbox: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None
    "MINLON,MINLAT,MAXLON,MAXLAT in degrees, longitude first."
    near: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None
    "LAT,LON in degrees, latitude first: the centre of a circle; with --radius-m."
    radius_m: float | None = None
    "Radius around --near in metres."
    geocoder: str | None = None
    "Address of a service that finds places by name as Nominatim does, such as https://nominatim.openstreetmap.org."

    def read(self) -> RequestedArea:
        """Read the area; ask the geocoder once where `area` is a name.

        Raises:
            ConfigError: There is no area or more than one, or a value cannot be read.
            InputError: The file is no area, or the geocoder knows no place or several places of this name.
            ServiceError: The geocoder cannot be reached or refuses.
        """
        from swclip.connectors.area import requested_area

        near = None if self.near is None else _position(self.near)
        return requested_area(self.area, bbox=self.bbox, near=near, radius_m=self.radius_m, geocoder=self.geocoder)


@Parameter(name="*", group=_CONDITIONS.group)
@dataclass(frozen=True)
class FilterOptions:
    """Conditions on entries; an entry must meet all of them."""

    image_id: list[str] | None = None
    "Id of a photograph; can be repeated."
    city: list[str] | None = None
    "City; can be repeated."
    source: list[str] | None = None
    "Source; can be repeated."
    within: Path | None = None
    "File of polygons (GeoJSON, GeoPackage, Shapefile): entries within them or on their border."
    near: str | None = None
    "LAT,LON in degrees: entries within --radius-m of this point. Write --near=-33.9,151.2 for a negative latitude."
    radius_m: float | None = None
    "Radius around --near in metres."
    since: str | None = None
    "Captured at or after this date or time (ISO 8601, UTC); excludes entries without a time."
    until: str | None = None
    "Captured before this date or time; excludes entries without a time."
    only: Literal["photographs", "positions"] | None = None
    "photographs: entries with a photograph. positions: entries without one."

    def read(self) -> EntryFilter:
        """Read the polygons and return the filter.

        Raises:
            ConfigError: A value cannot be read, or only one of --near and --radius-m is present.
            InputError: The polygons cannot be used.
        """
        from swclip.gallery.filters import EntryFilter
        from swclip.geo.areas import read_area

        if (self.near is None) != (self.radius_m is None):
            raise ConfigError("--near and --radius-m must be used together: a point and a radius in metres.")
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


def check_engine(engine: str | None, values: Mapping[str, Any]) -> None:
    """Raise ConfigError where an option has a value that an engine does not use.

    Args:
        engine: The engine; None for this process, which uses all.
        values: The values of those options by name.
    """
    for option, value in values.items():
        if engine is not None and value not in (None, False):
            reason = ": the cluster decides how many decode" if option == "--workers" else ""
            raise ConfigError(f"{option} cannot be used with --engine {engine}{reason}; leave out one of them.")


def _time(flag: str, text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(
            f"{flag} {text!r}: must be a date or time such as 2020-05-01 or 2020-05-01T12:00:00."
        ) from None
    return time if time.tzinfo is None else time.astimezone(UTC).replace(tzinfo=None)


def _point(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    try:
        lat, lon = (float(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(f"--near {text!r}: must be LAT,LON in degrees, such as 51.5074,-0.1278.") from None
    return lat, lon
