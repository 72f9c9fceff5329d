"""What an experiment is: areas, photographs, splits and systems, read from a TOML file with strict keys."""

from __future__ import annotations

import os
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from swclip.data.protocols import HoldOut, Protocol
from swclip.errors import ConfigError, SwclipError
from swclip.evaluation.estimator_choice import EstimatorChoice
from swclip.files import file_stem
from swclip.structure import first_error
from swclip.training.config import merged, nested, recipe_layers, shipped_summaries

if TYPE_CHECKING:
    from swclip.connectors.area import RequestedArea
    from swclip.connectors.service import Query
    from swclip.connectors.thinning import Thinning

_SHIPPED = ("swclip.experiments", "shipped")
_PAIR = Field(min_length=2, max_length=2)
_BOX = Field(min_length=4, max_length=4)


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class AreaTable(_Table):
    """A city and its area, as one of: `near` with `radius_m`, `bbox`, `file`.

    Attributes:
        city: Its name: the city of its photographs, and the name of its folder.
        near: Latitude, longitude of the centre of a circle, degrees.
        radius_m: Radius of the circle, metres.
        bbox: Least longitude, least latitude, greatest longitude, greatest latitude, degrees.
        file: A file of polygons, relative to the TOML file.
    """

    city: str = Field(min_length=1)
    near: Annotated[list[float], _PAIR] | None = None
    radius_m: float | None = None
    bbox: Annotated[list[float], _BOX] | None = None
    file: str | None = None

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        if (self.near is None) != (self.radius_m is None):
            raise ValueError("near and radius_m belong together")
        if sum(value is not None for value in (self.near, self.bbox, self.file)) != 1:
            raise ValueError("needs one of: near with radius_m, bbox, file")
        return self

    def read(self) -> RequestedArea:
        """The polygons.

        Raises:
            ConfigError: A value is invalid.
            InputError: The file is no area.
        """
        from swclip.connectors.area import requested_area

        near = None if self.near is None else (self.near[0], self.near[1])
        bbox = None if self.bbox is None else ",".join(map(repr, self.bbox))
        return requested_area(self.file, bbox=bbox, near=near, radius_m=self.radius_m)


class PhotographTable(_Table):
    """Which photographs of the areas; options of `swclip fetch`, which explains them."""

    size: str | None = None
    since: date | datetime | None = None
    until: date | datetime | None = None
    panoramas: Literal["all", "only", "none"] = "all"
    positions: Literal["recorded", "computed"] = "recorded"
    every_m: float | None = None
    sectors: int = 4
    captures: int = 1
    per_place: int | None = None
    min_quality: float | None = None
    views: int | None = Field(default=None, ge=1, le=360)

    def read(self) -> tuple[Query, Thinning]:
        """The filters and the thinning.

        Raises:
            ConfigError: A value is invalid.
        """
        from swclip.connectors.service import Query
        from swclip.connectors.thinning import Thinning

        since, until = _moment(self.since), _moment(self.until)
        if since is not None and until is not None and since >= until:
            raise ConfigError(f"since {since:%Y-%m-%d} is not before until {until:%Y-%m-%d}.")
        panoramas = {"all": None, "only": True, "none": False}[self.panoramas]
        thinning = Thinning(self.every_m, self.sectors, self.captures, self.per_place, self.min_quality)
        return Query(since, until, panoramas), thinning


class SplitTable(_Table):
    """One split of all photographs; options of `swclip split`, which explains them.

    Attributes:
        name: Name of its file and of the folder of its results; by default the protocol.
        draws: How often it is drawn, as `swclip benchmark --draws`; not of new-city.
        cities: new-city: the cities that are left out, one at a time; by default each.
    """

    protocol: Protocol
    name: str | None = Field(default=None, pattern=r"^\w[\w-]*$")
    draws: int = Field(default=1, ge=1)
    cities: list[str] | None = Field(default=None, min_length=1)
    seed: int = 0
    query_share: float = 0.2
    val_share: float = 0.1
    block_m: float = 100.0
    buffer_m: float = 20.0
    hold_out: HoldOut = "auto"
    gallery: str = "auto"

    @model_validator(mode="after")
    def _of_the_protocol(self) -> Self:
        if self.protocol == "new-city" and self.draws > 1:
            raise ValueError("draws are of known-places and new-streets; new-city leaves out each city in turn")
        if self.protocol != "new-city" and self.cities is not None:
            raise ValueError("cities are of new-city")
        return self

    @property
    def title(self) -> str:
        """Its name."""
        return self.name or self.protocol

    @property
    def options(self) -> dict[str, Any]:
        """The options of `split`."""
        return self.model_dump(exclude={"protocol", "name", "draws", "cities"})


class SystemTable(_Table):
    """What is trained and compared; options of `swclip benchmark`, which explains them.

    Attributes:
        names: Recipes by name or file, and the systems without training.
        seeds: Each recipe is trained once per seed.
        baseline: The system to which the others are compared.
        reference: A second one.
        estimator: How the point of every system is estimated from its posterior.
        set: Values that override those of every recipe, by key.
    """

    names: list[str] = Field(min_length=1)
    seeds: list[int] = Field(default=[0], min_length=1)
    baseline: str | None = None
    reference: str | None = None
    estimator: EstimatorChoice = "mode"
    set: dict[str, Any] = {}


class Experiment(_Table):
    """An experiment.

    Attributes:
        notes: What a reader of the results must know, as sentences.
        service: The street-imagery service.
        photographs: Which photographs.
        areas: The cities and their areas.
        splits: How all photographs are split.
        systems: What is trained and compared.
    """

    notes: list[str] = []
    service: str = "panoramax"
    photographs: PhotographTable = PhotographTable()
    areas: list[AreaTable] = Field(min_length=1)
    splits: list[SplitTable] = Field(min_length=1)
    systems: SystemTable

    @model_validator(mode="after")
    def _names(self) -> Self:
        cities = [area.city for area in self.areas]
        titles = [split.title for split in self.splits]
        for what, names in (("areas have the city", cities), ("splits have the name", titles)):
            folders = [file_stem(name) for name in names]
            twice = [name for name, folder in zip(names, folders, strict=True) if folders.count(folder) > 1]
            if twice:
                raise ValueError(f"two {what} {twice[0]!r}")
        for split in self.splits:
            unknown = [city for city in split.cities or () if city not in cities]
            if unknown:
                raise ValueError(f"splits leave out {unknown[0]!r}, which is not among the areas: {', '.join(cities)}")
            if split.protocol == "new-city" and len(cities) < 2:
                raise ValueError("new-city needs two areas or more")
        return self

    @property
    def overrides(self) -> dict[str, Any]:
        """What overrides the values of every recipe, nested."""
        return nested(self.systems.set)

    @property
    def trained(self) -> list[str]:
        """The systems that are trained."""
        from swclip.comparison.benchmark_runs import UNTRAINED

        return [name for name in self.systems.names if name not in UNTRAINED]

    def runs_of(self, split: SplitTable) -> int:
        """Number of trainings of one system on a split."""
        drawn = len(split.cities or self.areas) if split.protocol == "new-city" else split.draws
        return drawn * len(self.systems.seeds)


def read_experiment(name: str | os.PathLike[str]) -> Experiment:
    """Read an experiment, and check all of its values.

    Args:
        name: The name of a shipped experiment, or the path of a TOML file. A file may begin with `base = "uk8"`, or the
            path of another file, and then contains only what differs: tables are merged, lists replaced. Paths in it
            are relative to it.

    Raises:
        ConfigError: There is no such experiment, a key is unknown or missing, or a value cannot be used.
        InputError: A file of polygons cannot be used.

    Example:
        >>> [area.city for area in read_experiment("uk8").areas][:3]
        ['London', 'Birmingham', 'Manchester']
    """
    values: dict[str, Any] = {}
    layers = recipe_layers(os.fspath(name), package=_SHIPPED[0], folder=_SHIPPED[1], noun="experiment")
    for path, layer in layers:
        values = merged(values, _with_paths(layer, Path(path).parent))
    where = layers[-1][0]
    try:
        experiment = Experiment.model_validate(values)
    except ValidationError as error:
        raise ConfigError(_sentence(error, where)) from None
    _check(experiment, where)
    return experiment


def experiment_summaries() -> dict[str, str]:
    """The shipped experiments: names, and their purpose in one line."""
    return shipped_summaries(*_SHIPPED)


def _with_paths(layer: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The values of one file, with the paths in it relative to the working folder."""
    layer = dict(layer)
    areas = layer.get("areas")
    if isinstance(areas, list):
        layer["areas"] = [
            {**area, "file": str(folder / area["file"])}
            if isinstance(area, dict) and isinstance(area.get("file"), str)
            else area
            for area in areas
        ]
    systems = layer.get("systems")
    if isinstance(systems, dict) and isinstance(systems.get("names"), list):
        names = [str(folder / name) if str(name).endswith(".toml") else name for name in systems["names"]]
        layer["systems"] = {**systems, "names": names}
    return layer


def _sentence(error: ValidationError, where: str) -> str:
    """The first error of a validation, with file, key, value and what is possible."""
    key, first = first_error(error)
    if first["type"] == "extra_forbidden":
        tables: dict[str, type[_Table]] = {
            "areas": AreaTable, "photographs": PhotographTable, "splits": SplitTable, "systems": SystemTable,
        }  # fmt: skip
        table = tables[str(first["loc"][0])] if len(first["loc"]) > 1 else Experiment
        return f"{where}: {key} is not a key; keys: {', '.join(table.model_fields)}."
    if first["type"] == "missing":
        return f"{where}: {key} is missing."
    text = first["msg"].removeprefix("Value error, ")
    if isinstance(first["input"], (dict, list)) and first["type"] == "value_error":
        return f"{where}: {f'{key}: ' if key else ''}{text}."
    key = key.removesuffix(".datetime").removesuffix(".date")  # the types of which a date may be one
    hint = "; write it without quotation marks, as in since = 2019-06-01" if key.endswith(("since", "until")) else ""
    return f"{where}: {key} = {first['input']!r}: {text}{hint}."


def _check(experiment: Experiment, where: str) -> None:
    """Raise the error of the first value that an area, the filters, a split, or a recipe refuses, with its file."""
    from swclip.comparison.benchmark_runs import system_name
    from swclip.connectors.fetch import SERVICES
    from swclip.data.protocols import SplitConfig
    from swclip.training.config import load_recipe

    if experiment.service not in SERVICES:
        raise ConfigError(f"{where}: service = {experiment.service!r}: must be one of {', '.join(SERVICES)}.")
    sizes, size = SERVICES[experiment.service].sizes, experiment.photographs.size
    if size is not None and size not in sizes:
        raise ConfigError(f"{where}: photographs.size = {size!r}: must be one of {', '.join(sizes)}.")
    checks = [(f"areas.{at} ({area.city})", area.read) for at, area in enumerate(experiment.areas)] + [
        ("photographs", experiment.photographs.read)
    ]
    for key, check in checks:
        try:
            check()
        except SwclipError as error:
            raise type(error)(f"{where}: {key}: {error}") from None
    for at, split in enumerate(experiment.splits):
        try:
            SplitConfig(split.protocol, **split.options)
        except ConfigError as error:
            raise ConfigError(f"{where}: splits.{at}: {error}") from None
    names = [system_name(name) for name in experiment.systems.names]
    for role in ("baseline", "reference"):
        name = getattr(experiment.systems, role)
        if name is not None and name not in names:
            raise ConfigError(f"{where}: systems.{role} = {name!r}: is not among the systems: {', '.join(names)}.")
    for name in experiment.trained:
        try:
            load_recipe(name, experiment.overrides)
        except ConfigError as error:
            raise ConfigError(f"{where}: systems.set with the recipe {name}: {error}") from None


def _moment(value: date | datetime | None) -> datetime | None:
    if value is None:
        return None
    moment = value if isinstance(value, datetime) else datetime.combine(value, time())
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
