"""Configuration of a training run: frozen dataclasses, read from a recipe (TOML) and saved whole with the run."""

from __future__ import annotations

import os
import tomllib
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, is_dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

import tomli_w

from swclip.errors import ConfigError, SwclipWarning
from swclip.files import atomic_file
from swclip.gallery.hubness import HubnessConfig
from swclip.losses import ObjectiveConfig, TargetConfig
from swclip.models.config import ModelConfig
from swclip.structure import as_plain, structure, without_none
from swclip.training.bandwidth import BandwidthConfig
from swclip.training.fine_tuning import TuningConfig
from swclip.training.location_queue import QueueConfig, check_noise


@dataclass(frozen=True)
class BatchConfig:
    """How batches are drawn.

    Attributes:
        size: Photographs in the global batch, of all processes together; never more than there are.
        sampler: `random`, or `neighbours`: anchors followed by photographs near them on the ground.
        neighbours_per_anchor: How many may follow an anchor.
        radius_m: How near they must be, metres.
        balance_regions: Draw as many anchors from each district, however many photographs it holds.
        chunk: Photographs whose activations are in memory at once; 0 for all. The gradient is that of the whole batch
            whatever the chunk: embeddings first, then the loss, then the chunks again with the loss's gradient.
        position_noise_m: Standard deviation, metres to the east and to the north each, of what is added to the
            positions that the location side encodes, drawn anew at each step (GeoCLIP). Targets go by the
            recorded positions.
    """

    size: int = 256
    sampler: Literal["random", "neighbours"] = "random"
    neighbours_per_anchor: int = 3
    radius_m: float = 50.0
    balance_regions: bool = False
    chunk: int = 0
    position_noise_m: float = 0.0

    def __post_init__(self) -> None:
        if self.size < 2:
            raise ConfigError(f"batch size {self.size}: a contrast needs at least 2 photographs.")
        if self.chunk < 0:
            raise ConfigError(f"batch chunk {self.chunk} must be 0 (no chunks) or more.")
        check_noise("batch position_noise_m", self.position_noise_m)


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW with a rate for each kind of weight, warm-up and cosine.

    Attributes:
        rate: Heads, small networks and towers that are trained from scratch.
        tower_rate: A pretrained image tower that is not frozen.
        lora_rate: LoRA adapters of an image tower.
        text_rate: A pretrained text tower; a rate fit for heads destroys it.
        grid_rate: The location side's tables (feature grid, cell tokens), of which a step touches few rows.
        scale_rate: The logit scale, and the weights of the modalities in their fusion.
        weight_decay: On matrices, not on biases, norms, tables or the scale.
        betas: AdamW's moments.
        warmup: Share of the steps over which the rates rise from 0.
        final: Share of the rates that is left at the end of the cosine.
        clip: Largest norm of the gradient.
    """

    rate: float = 1e-3
    tower_rate: float = 1e-5
    lora_rate: float = 5e-4
    text_rate: float = 5e-5
    grid_rate: float = 1e-2
    scale_rate: float = 1e-2
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.98)
    warmup: float = 0.05
    final: float = 0.0
    clip: float = 1.0


@dataclass(frozen=True)
class TrainingConfig:
    """A whole training run.

    Attributes:
        model: What the model is made of.
        objective: The loss and its terms.
        bandwidth: How the bandwidth of its soft labels is chosen.
        batch: How batches are drawn.
        queue: Places of earlier batches as further locations of the contrast.
        optimizer: How weights move.
        steps: Optimizer steps.
        evaluate_every: Steps between two validations, of which the best weights are kept; 0: at the end only.
        checkpoint_every: Steps between two checkpoints, from which a killed run resumes; 0: none.
        freeze_image: Keep the image tower as it is: its features are computed once and kept on disk.
        tuning: Which part of an image tower that is not frozen learns.
        augment: Random crop, brightness, contrast, saturation of the training photographs; not with a frozen tower.
        precision: `float32`, or `bfloat16` where there is a GPU (mixed); `auto` chooses.
        hubness: Shares of the photographs' hubness that may be subtracted when the posterior is fitted.
        region: Manifest column that names the district, for fairness and balanced batches.
        seed: Seed of weights, batches, augmentation and dropout.
    """

    model: ModelConfig = field(default_factory=ModelConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    bandwidth: BandwidthConfig = field(default_factory=BandwidthConfig)
    batch: BatchConfig = field(default_factory=BatchConfig)
    queue: QueueConfig = field(default_factory=QueueConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    steps: int = 1000
    evaluate_every: int = 100
    checkpoint_every: int = 100
    freeze_image: bool = False
    tuning: TuningConfig = field(default_factory=TuningConfig)
    augment: bool = True
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    hubness: HubnessConfig = field(default_factory=HubnessConfig)
    region: str = "city"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ConfigError(f"steps {self.steps} must be at least 1.")
        if self.bandwidth.form != "fixed" and self.objective.targets.bandwidths_m != TargetConfig().bandwidths_m:
            raise ConfigError(
                f"objective.targets.bandwidths_m {list(self.objective.targets.bandwidths_m)} would not be used: "
                f"bandwidth.form is {self.bandwidth.form!r}. Set it to 'fixed', or leave the bandwidths out."
            )
        if self.freeze_image and self.tuning.partial:
            raise ConfigError(
                f"freeze_image keeps the image tower as it is, and tuning (blocks {self.tuning.blocks}, lora_rank "
                f"{self.tuning.lora_rank}) has part of it learn: set freeze_image = false, or leave tuning out."
            )
        if self.model.views.names and self.objective.views.weight == 0.0:
            raise ConfigError(
                f"the model has further modalities ({', '.join(self.model.views.names)}) and objective.views.weight is "
                "0: nothing would train them. Give it a weight, or set model.views.caption and map to 'none'."
            )


def load_recipe(name: str | os.PathLike[str], overrides: Mapping[str, Any] | None = None) -> TrainingConfig:
    """Read a recipe.

    Args:
        name: The name of a shipped recipe (`clip`, `sw-clip`), or the path of a TOML file. Either may build on another
            by `base = "sw-clip"`.
        overrides: Values that replace the recipe's: by dotted key as in `--set`, nested as the dataclasses are, or
            both. A text for a value that is no text (`"400"`, `"[15.0, 60.0]"`) is read as TOML, as `--set` reads it.

    Raises:
        ConfigError: No such recipe, not TOML, an unknown key, or a value that cannot work.

    Example:
        >>> config = load_recipe("sw-clip", {"steps": 10, "optimizer.rate": 1e-3, "batch": {"size": "64"}})
        >>> config.steps, config.optimizer.rate, config.batch.size
        (10, 0.001, 64)
    """
    name = os.fspath(name)
    values: dict[str, Any] = {}
    *grounds, (where, own) = recipe_layers(name)
    for ground, stated in grounds:  # each is a recipe by itself, so that what does not fit is named where it stands
        values = merged(values, stated)
        structure(TrainingConfig, values, ground)
    replaced = read_texts(TrainingConfig, nested(overrides or {}))
    return structure(TrainingConfig, merged(merged(values, own), replaced), where)


def write_config(path: Path, config: TrainingConfig) -> None:
    """Write a configuration whole, as a recipe that makes the same run."""
    with atomic_file(path) as beside:
        beside.write_bytes(tomli_w.dumps(without_none(as_plain(config))).encode())


def recipe_names() -> list[str]:
    """Names of the recipes that ship with the package."""
    folder = resources.files("swclip.training") / "recipes"
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def recipe_summaries() -> dict[str, str]:
    """The recipes that ship with the package: name, and what it is for in one line.

    Example:
        >>> recipe_summaries()["clip"]
        "CLIP's one-hot contrastive loss on random batches: what SW-CLIP is compared with."
    """
    folder = resources.files("swclip.training") / "recipes"
    texts = {name: (folder / f"{name}.toml").read_text(encoding="utf-8") for name in recipe_names()}
    return {name: text.partition("\n")[0].removeprefix("#").strip() for name, text in texts.items()}


def warn_of_untrained_tower(config: TrainingConfig) -> None:
    """Warn where a frozen image tower was never trained: nothing that is learnt on its features means anything."""
    if config.freeze_image and config.model.image.tower.startswith("builtin:"):
        warnings.warn(
            f"freeze_image keeps {config.model.image.tower} as it is, and that image tower is not pretrained: its "
            "features mean nothing. Name a pretrained one (model.image.tower, --image-tower), or let it learn "
            "(freeze_image = false, --freeze none).",
            SwclipWarning,
            stacklevel=3,
        )


def recipe_layers(name: str) -> list[tuple[str, dict[str, Any]]]:
    """A recipe and all it builds on, the ground first.

    A recipe may begin with `base = "sw-clip"` (one that ships) or `base = "other.toml"` (relative to its own file): it
    then states only what it has otherwise.

    Args:
        name: The name of a shipped recipe, or the path of a TOML file.

    Returns:
        What to call each layer in an error, and its values without `base`.

    Raises:
        ConfigError: No such recipe, not TOML, a base that is no text, or one that builds on itself.
    """
    layers: list[tuple[str, dict[str, Any]]] = []
    seen: list[str] = []
    place: Path | None = None
    base: object = name
    while base is not None:
        if not isinstance(base, str):
            raise ConfigError(f"{layers[-1][0]}: base = {base!r} must be the name of a recipe, or a TOML file.")
        where, identity, text, place = _found(base, place, layers[-1][0] if layers else None)
        if identity in seen:
            ring = " -> ".join(Path(step).name for step in [*seen[seen.index(identity) :], identity])
            raise ConfigError(f"{layers[-1][0]}: base = {base!r} leads back to where it came from ({ring}); cut it.")
        seen.append(identity)
        values = _values(text, where)
        base = values.pop("base", None)
        layers.append((where, values))
    return layers[::-1]


def merged(values: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Nested tables, the second over the first; a list replaces a list."""
    both = dict(values)
    for key, value in overrides.items():
        below = both.get(key)
        both[key] = merged(below if isinstance(below, Mapping) else {}, value) if isinstance(value, Mapping) else value
    return both


def _found(name: str, beside: Path | None, asked_by: str | None) -> tuple[str, str, bytes, Path | None]:
    """What to call a recipe, what tells it from others, its text, and the folder its own base is relative to."""
    if name in recipe_names():
        text = (resources.files("swclip.training") / "recipes" / f"{name}.toml").read_bytes()
        return f"recipe {name}", name, text, None
    path = Path(name) if beside is None else beside / name
    if not path.is_file():
        lead = "" if asked_by is None else f"{asked_by}: base: "
        raise ConfigError(
            f"{lead}recipe {name!r} is neither one that ships ({', '.join(recipe_names())}) nor a TOML file there is."
        )
    return str(path), str(path.resolve()), path.read_bytes(), path.parent


def _values(text: bytes, where: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{where}: is not valid TOML ({error}).") from error


def assigned(assignments: Iterable[str]) -> dict[str, Any]:
    """`KEY=VALUE` texts as values by dotted key; a value is TOML, or plain text where it is none.

    Raises:
        ConfigError: A text without `=`.

    Example:
        >>> assigned(["steps=10", "model.image.tower=builtin:small"])
        {'steps': 10, 'model.image.tower': 'builtin:small'}
    """
    values: dict[str, Any] = {}
    for text in assignments:
        key, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"--set {text!r}: write KEY=VALUE, such as --set objective.neighbourhood.weight=0.5.")
        values[key.strip()] = _toml_or_text(value)
    return values


def _toml_or_text(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted keys as nested tables, at any depth.

    Raises:
        ConfigError: A key is both a value and a table.

    Example:
        >>> nested({"batch.size": 8, "steps": 2, "batch": {"hard.share": 0.1}})
        {'batch': {'size': 8, 'hard': {'share': 0.1}}, 'steps': 2}
    """
    tables: dict[str, Any] = {}
    for key, value in values.items():
        *parents, last = key.split(".")
        below: Any = nested(value) if isinstance(value, Mapping) else value
        if parents:
            below = {last: below}
            for parent in reversed(parents[1:]):
                below = {parent: below}
            last = parents[0]
        _put(tables, last, below, key)
    return tables


def _put(tables: dict[str, Any], key: str, value: Any, whole: str) -> None:
    """Put a value or a table into tables; of two tables under one key, both stay."""
    if key in tables and isinstance(tables[key], dict) != isinstance(value, dict):
        raise ConfigError(f"{whole}: {key} is given both a value and further keys below it; give one of the two.")
    if isinstance(value, dict) and key in tables:
        for name, below in value.items():
            _put(tables[key], name, below, whole)
    else:
        tables[key] = value


def read_texts(kind: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """Nested values with texts read as TOML where the dataclass holds no text.

    Args:
        kind: The dataclass.
        values: Its values; keys that it has not are left as they are.
    """
    hints = get_type_hints(kind)
    read: dict[str, Any] = {}
    for key, value in values.items():
        hint = hints.get(key, str)
        if isinstance(value, Mapping):
            read[key] = read_texts(hint, value) if is_dataclass(hint) and isinstance(hint, type) else dict(value)
        else:
            text = hint is str or str in get_args(hint)
            read[key] = _toml_or_text(value) if isinstance(value, str) and not text else value
    return read
