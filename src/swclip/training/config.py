"""Configuration of a training run: frozen dataclasses, read from a recipe (TOML) and saved with the run."""

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
from swclip.models.config import UNTRAINED_TOWER, ImageConfig, ModelConfig
from swclip.models.embed_patches import VerificationConfig
from swclip.models.whitening import WhiteningConfig
from swclip.structure import as_plain, structure, without_none
from swclip.training.bandwidth import BandwidthConfig
from swclip.training.fine_tuning import TuningConfig
from swclip.training.location_queue import QueueConfig, check_noise


@dataclass(frozen=True)
class BatchConfig:
    """Batches.

    Attributes:
        size: Photographs in the global batch, of all processes together; at most the number of training photographs.
        sampler: `random`, or `neighbours`: anchors followed by geographic neighbours.
        neighbours_per_anchor: Largest number of neighbours of an anchor.
        radius_m: Their largest distance from the anchor, metres.
        balance_regions: Draw as many anchors from each district, however many photographs it has.
        chunk: Photographs whose activations are in memory at once; 0 for all. The gradient is that of the whole batch
            for every chunk size: embeddings first, then the loss, then the chunks again with the loss's gradient.
        position_noise_m: Standard deviation, in metres to the east and to the north, of the noise on the positions that
            the location side encodes, drawn at each step (GeoCLIP). Targets use the recorded positions.

    Raises:
        ConfigError: A value that cannot work.
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
    """AdamW with a learning rate for each kind of weight, warm-up and cosine decay.

    Attributes:
        rate: Learning rate of heads, small networks and towers that are trained from scratch.
        tower_rate: That of a pretrained image tower that is not frozen.
        lora_rate: That of LoRA adapters of an image tower.
        text_rate: That of a pretrained text tower; a rate suited to heads would destroy its weights.
        grid_rate: That of the location side's tables (feature grid, cell tokens), of which a step changes few rows.
        scale_rate: That of the logit scale, and of the weights of the modalities in their fusion.
        weight_decay: Weight decay of matrices; biases, norms, tables and the scale have none.
        betas: AdamW's decay rates of the moments.
        warmup: Share of the steps over which the rates rise from 0.
        final: Share of the rates at the end of the cosine.
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
        model: The model.
        objective: The loss and its terms.
        bandwidth: The choice of the bandwidth of its soft labels.
        batch: The batches.
        queue: Locations of earlier batches as further candidates of the contrast.
        optimizer: The optimizer.
        steps: Number of optimizer steps.
        evaluate_every: Steps between two validations; the best weights are saved; 0: at the end only.
        checkpoint_every: Steps between two checkpoints, from which a killed run resumes; 0: none.
        freeze_image: Do not train the image tower: its features are computed once and stored on disk.
        tuning: The trained part of an image tower that is not frozen.
        augment: Random crop, brightness, contrast, saturation of the training photographs; not with a frozen tower.
        precision: `float32`, or `bfloat16` where there is a GPU (mixed); `auto` chooses.
        hubness: Shares of the photographs' hubness that may be subtracted when the posterior is fitted.
        whitening: Whitened features of the frozen tower, an evidence beside the trained embeddings.
        verification: Verification of the most probable candidates by patch features.
        region: Manifest column with the district, for fairness and balanced batches.
        seed: Seed of weights, batches, augmentation and dropout.

    Raises:
        ConfigError: A value that cannot work, or settings that contradict each other.
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
    whitening: WhiteningConfig = field(default_factory=WhiteningConfig)
    verification: VerificationConfig = field(default_factory=VerificationConfig)
    region: str = "city"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ConfigError(f"steps {self.steps} must be at least 1.")
        if self.bandwidth.form != "fixed" and self.objective.targets.bandwidths_m != TargetConfig().bandwidths_m:
            raise ConfigError(
                f"objective.targets.bandwidths_m {list(self.objective.targets.bandwidths_m)} would not be used: "
                f"bandwidth.form is {self.bandwidth.form!r}. Set it to 'fixed', or remove the bandwidths."
            )
        if self.tuning.after and (self.freeze_image or self.tuning.after >= self.steps):
            trained = "freeze_image is true" if self.freeze_image else f"there are {self.steps} steps"
            raise ConfigError(
                f"tuning.after {self.tuning.after}: the image tower would never be trained, since {trained}; set "
                "freeze_image = true without tuning.after to train the heads alone, or a smaller tuning.after."
            )
        if not self.freeze_image:
            _check_trainable(self.model.image)
        if self.freeze_image and self.tuning.partial:
            raise ConfigError(
                f"freeze_image excludes the image tower from training, but tuning (blocks {self.tuning.blocks}, "
                f"lora_rank {self.tuning.lora_rank}) trains part of it: set freeze_image = false, or remove tuning."
            )
        if self.model.views.names and self.objective.views.weight == 0.0:
            raise ConfigError(
                f"the model has further modalities ({', '.join(self.model.views.names)}), but objective.views.weight "
                "is 0, so they would not be trained. Give it a weight, or set model.views.caption and map to 'none'."
            )


def _check_trainable(image: ImageConfig) -> None:
    onnx = [tower.tower for tower in image.towers if tower.is_onnx]
    if onnx or image.beside:
        what = f"{onnx[0]} is an ONNX file, and" if onnx else f"{image.name}: several image towers"
        raise ConfigError(
            f"{what} cannot be trained, only used as pretrained: set freeze_image = true (--freeze image)."
        )


def load_recipe(name: str | os.PathLike[str], overrides: Mapping[str, Any] | None = None) -> TrainingConfig:
    """Read a recipe.

    Args:
        name: The name of a shipped recipe (`clip`, `sw-clip`), or the path of a TOML file. Either may extend another
            with `base = "sw-clip"`.
        overrides: Values that replace the recipe's: by dotted key as in `--set`, nested like the dataclasses, or both.
            A text for a value that is not a text (`"400"`, `"[15.0, 60.0]"`) is parsed as TOML, as with `--set`.

    Raises:
        ConfigError: There is no such recipe, it is not TOML, a key is unknown, or a value cannot work.

    Example:
        >>> config = load_recipe("sw-clip", {"steps": 10, "optimizer.rate": 1e-3, "batch": {"size": "64"}})
        >>> config.steps, config.optimizer.rate, config.batch.size
        (10, 0.001, 64)
    """
    name = os.fspath(name)
    values: dict[str, Any] = {}
    *bases, (where, last) = recipe_layers(name)
    for base, layer in bases:  # each is a complete recipe, so that an error names the layer that caused it
        values = merged(values, layer)
        structure(TrainingConfig, values, base)
    replaced = read_texts(TrainingConfig, nested(overrides or {}))
    return structure(TrainingConfig, merged(merged(values, last), replaced), where)


def write_config(path: Path, config: TrainingConfig) -> None:
    """Write a complete configuration, as a recipe of the same run."""
    with atomic_file(path) as beside:
        beside.write_bytes(tomli_w.dumps(without_none(as_plain(config))).encode())


def recipe_names() -> list[str]:
    """Names of the shipped recipes."""
    return shipped_names("swclip.training", "recipes")


def shipped_names(package: str, folder: str) -> list[str]:
    """Names of the TOML files of a folder of a package."""
    entries = (resources.files(package) / folder).iterdir()
    return sorted(entry.name.removesuffix(".toml") for entry in entries if entry.name.endswith(".toml"))


def recipe_summaries() -> dict[str, str]:
    """The shipped recipes: names, and their purpose in one line.

    Example:
        >>> recipe_summaries()["clip"]
        'CLIP: one-hot contrast on random batches. The baseline of SW-CLIP.'
    """
    return shipped_summaries("swclip.training", "recipes")


def shipped_summaries(package: str, folder: str) -> dict[str, str]:
    """The TOML files of a folder of a package: names, and the comment of their first line."""
    files = resources.files(package) / folder
    texts = {name: (files / f"{name}.toml").read_text(encoding="utf-8") for name in shipped_names(package, folder)}
    return {name: text.partition("\n")[0].removeprefix("#").strip() for name, text in texts.items()}


def warn_of_untrained_tower(config: TrainingConfig) -> None:
    """Warn where a frozen image tower was never trained, so that its features are random."""
    if config.freeze_image and any(tower.tower == UNTRAINED_TOWER for tower in config.model.image.towers):
        warnings.warn(
            f"freeze_image keeps {UNTRAINED_TOWER} untrained, and that image tower is not pretrained: its features are "
            "random. Choose a pretrained one (model.image.tower, --image-tower; builtin:street needs no download), or "
            "train it (freeze_image = false, --freeze none).",
            SwclipWarning,
            stacklevel=3,
        )


def recipe_layers(
    name: str, *, package: str = "swclip.training", folder: str = "recipes", noun: str = "recipe"
) -> list[tuple[str, dict[str, Any]]]:
    """A recipe, or another description in layers, and all its bases, the outermost base first.

    A recipe may begin with `base = "sw-clip"` (a shipped one) or `base = "other.toml"` (relative to its file): it then
    contains only the differences.

    Args:
        name: The name of a shipped recipe, or the path of a TOML file.
        package: The package of the shipped ones.
        folder: Their folder in it.
        noun: What they are, in errors.

    Returns:
        The name of each layer in errors, and its values without `base`.

    Raises:
        ConfigError: There is no such recipe, it is not TOML, a base is not a text, or a recipe is its own base.
    """
    layers: list[tuple[str, dict[str, Any]]] = []
    seen: list[str] = []
    place: Path | None = None
    base: object = name
    while base is not None:
        if not isinstance(base, str):
            raise ConfigError(f"{layers[-1][0]}: base = {base!r} must be the name of a {noun}, or a TOML file.")
        where, identity, text, place = _resolve(base, place, layers[-1][0] if layers else None, package, folder, noun)
        if identity in seen:
            ring = " -> ".join(Path(step).name for step in [*seen[seen.index(identity) :], identity])
            raise ConfigError(f"{layers[-1][0]}: base = {base!r} is circular ({ring}); remove one of these bases.")
        seen.append(identity)
        values = _values(text, where)
        base = values.pop("base", None)
        layers.append((where, values))
    return layers[::-1]


def merged(values: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Merge nested tables: values of the second replace those of the first; lists are replaced as a whole."""
    both = dict(values)
    for key, value in overrides.items():
        below = both.get(key)
        both[key] = merged(below if isinstance(below, Mapping) else {}, value) if isinstance(value, Mapping) else value
    return both


def _resolve(
    name: str, beside: Path | None, parent: str | None, package: str, folder: str, noun: str
) -> tuple[str, str, bytes, Path | None]:
    """The name of a recipe in errors, its identity, its text, and the folder to which its base is relative."""
    shipped = shipped_names(package, folder)
    if name in shipped:
        text = (resources.files(package) / folder / f"{name}.toml").read_bytes()
        return f"{noun} {name}", name, text, None
    path = Path(name) if beside is None else beside / name
    if not path.is_file():
        lead = "" if parent is None else f"{parent}: base: "
        raise ConfigError(
            f"{lead}{noun} {name!r} is neither a shipped one ({', '.join(shipped)}) nor an existing TOML file."
        )
    return str(path), str(path.resolve()), path.read_bytes(), path.parent


def _values(text: bytes, where: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{where}: is not valid TOML ({error}).") from error


def assigned(assignments: Iterable[str]) -> dict[str, Any]:
    """Parse `KEY=VALUE` texts into values by dotted key; a value is TOML, or plain text where it is not valid TOML.

    Raises:
        ConfigError: A text has no `=`.

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
    """Expand dotted keys into nested tables, at any depth.

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
    """Put a value or a table into tables; two tables under one key are merged."""
    if key in tables and isinstance(tables[key], dict) != isinstance(value, dict):
        raise ConfigError(f"{whole}: {key} has both a value and nested keys; give one of the two.")
    if isinstance(value, dict) and key in tables:
        for name, below in value.items():
            _put(tables[key], name, below, whole)
    else:
        tables[key] = value


def read_texts(kind: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """Parse texts of nested values as TOML where the dataclass does not have a text.

    Args:
        kind: The dataclass.
        values: Its values; unknown keys are kept unchanged.
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
