"""Preprocessing of RGB pictures for image towers."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, Self, get_args

import numpy as np
from jaxtyping import Float32
from PIL import Image

from swclip.errors import ConfigError
from swclip.imaging.decode import MAX_PIXELS, decode_photograph

Resize = Literal["shortest-crop", "squash", "whole"]
Interpolation = Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]

_FILTERS: dict[str, Image.Resampling] = {
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "hamming": Image.Resampling.HAMMING,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
LONGEST_ASPECT = 4.0
"""Longer side over shorter side of the widest picture that `whole` keeps in shape: a tower's time and memory grow with
its pixels. Wider ones (whole panoramas, strips) are compressed to it."""


Pixels = Float32[np.ndarray, "3 _ _"] | tuple[Float32[np.ndarray, "3 _ _"], ...]
"""A preprocessed photograph: an array (3, H, W), or one for each of several towers."""
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Preprocess:
    """Resize, crop and normalise with the settings of a pretrained tower.

    Attributes:
        size_px: Side of the output square, pixels; of "whole" the shorter side.
        resize: "shortest-crop" scales the shorter side to `shortest_px` and crops the centre, which keeps the aspect
            ratio; "squash" scales both sides to `size_px`, which keeps the whole picture; "whole" keeps both: the
            output is as wide or high as the picture, up to `LONGEST_ASPECT`.
        mean: Mean of each channel, for values from 0 to 1.
        std: Standard deviation of each channel.
        interpolation: Resampling filter.
        shortest_px: Shorter side before cropping, pixels; `size_px` if None.
        rescale: Factor from values of 0 to 255 to the scale of `mean` and `std`.
        multiple_px: Both sides of "whole" are rounded to multiples of it: the tower's patch.
        width_px: Width of the output of "squash" where it is not a square; `size_px` is its height.

    Example:
        >>> Preprocess(size_px=4)(Image.new("RGB", (12, 6), "white")).shape
        (3, 4, 4)
        >>> Preprocess(size_px=4, resize="whole")(Image.new("RGB", (12, 6), "white")).shape
        (3, 4, 8)
    """

    size_px: int = 224
    resize: Resize = "shortest-crop"
    mean: tuple[float, float, float] = CLIP_MEAN
    std: tuple[float, float, float] = CLIP_STD
    interpolation: Interpolation = "bicubic"
    shortest_px: int | None = None
    rescale: float = 1.0 / 255.0
    multiple_px: int = 1
    width_px: int | None = None

    def __post_init__(self) -> None:
        for name, side in (("size_px", self.size_px), ("multiple_px", self.multiple_px), ("width_px", self.width_px)):
            if side is not None and side < 1:
                raise ConfigError(f"preprocessing: {name} is {side}, it must be at least 1.")
        if self.resize not in get_args(Resize):
            choices = ", ".join(map(repr, get_args(Resize)))
            raise ConfigError(f"preprocessing: resize is {self.resize!r}; choose one of {choices}.")
        if self.width_px is not None and self.resize != "squash":
            raise ConfigError(f"preprocessing: width_px is for resize 'squash', not {self.resize!r}; choose that one.")
        if self.interpolation not in _FILTERS:
            raise ConfigError(
                f"preprocessing: interpolation is {self.interpolation!r}; choose one of {', '.join(_FILTERS)}."
            )
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise ConfigError("preprocessing: mean and std need three values each, and std must be above 0.")
        if self.shortest_px is not None and self.shortest_px < self.size_px:
            raise ConfigError(
                f"preprocessing: shortest_px is {self.shortest_px}, too small to cut {self.size_px} px out of."
            )

    @property
    def decode_px(self) -> int:
        """Shorter side, in pixels, with which photographs need to be decoded; see `decode_photograph`."""
        if self.resize == "whole":
            return _to_multiple(self.size_px, self.multiple_px)
        return self.shortest_px or max(self.size_px, self.width_px or 0)

    @property
    def shape_px(self) -> tuple[int, int] | None:
        """Height and width of the output; None where they are those of the picture ("whole")."""
        return None if self.resize == "whole" else (self.size_px, self.width_px or self.size_px)

    def at_size(self, size_px: int) -> Self:
        """The same preprocessing for another size; the shorter side before the crop is scaled with it."""
        shortest = self.shortest_px and round(self.shortest_px * size_px / self.size_px)
        return replace(self, size_px=size_px, shortest_px=shortest)

    def __call__(self, image: Image.Image) -> Float32[np.ndarray, "3 h w"]:
        """Convert an RGB picture to a (3, H, W) float32 array; H = W = size_px but for "whole" and `width_px`."""
        pixels = np.asarray(self.resized(image), dtype=np.float32).transpose(2, 0, 1)
        std = np.asarray(self.std, dtype=np.float64)
        scale = (self.rescale / std).astype(np.float32)[:, None, None]
        shift = (np.asarray(self.mean, dtype=np.float64) / std).astype(np.float32)[:, None, None]
        out = np.multiply(pixels, scale, order="C")
        out -= shift
        return out

    def resized(self, image: Image.Image) -> Image.Image:
        """Return the resized RGB picture, before normalisation."""
        if image.mode != "RGB":
            image = image.convert("RGB")
        side = self.size_px
        width, height = image.size
        if self.resize == "squash":
            return image.resize((self.width_px or side, side), _FILTERS[self.interpolation])
        if self.resize == "whole":
            return image.resize(self._whole_size(width, height), _FILTERS[self.interpolation])
        short = self.decode_px
        wide = short if width <= height else int(short * width / height)
        high = int(short * height / width) if width <= height else short
        left, top = (wide - side) // 2, (high - side) // 2
        # Resampling the crop directly from the source equals resizing the whole picture and then cropping, up to one or
        # two grey levels of rounding, at a fraction of the work for a wide picture.
        scale_x, scale_y = width / wide, height / high
        box = (left * scale_x, top * scale_y, min((left + side) * scale_x, width), min((top + side) * scale_y, height))
        return image.resize((side, side), _FILTERS[self.interpolation], box=box)

    def _whole_size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height of a whole picture: the shorter side as configured, the longer one by the aspect."""
        aspect = min(max(width, height) / min(width, height), LONGEST_ASPECT)
        short = self.decode_px
        long = _to_multiple(short * aspect, self.multiple_px)
        return (long, short) if width >= height else (short, long)

    def read(
        self, source: str | os.PathLike[str] | bytes, *, max_pixels: int = MAX_PIXELS
    ) -> Float32[np.ndarray, "3 h w"]:
        """Decode a photograph at the required size and preprocess it.

        Raises:
            PhotographError: The file cannot be used as a photograph.
        """
        return self(decode_photograph(source, size_px=self.decode_px, max_pixels=max_pixels))

    @property
    def digest(self) -> str:
        """SHA-256 of the settings; equal digests give equal arrays."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain values for JSON."""
        values = {**asdict(self), "mean": list(self.mean), "std": list(self.std)}
        for name in ("multiple_px", "width_px"):  # left out at their defaults: digests are those of earlier releases
            if values[name] == self.__dataclass_fields__[name].default:
                del values[name]
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Build the preprocessing from the result of `to_dict`.

        Raises:
            ConfigError: A key is unknown or a value is not valid.
        """
        unknown = sorted(set(values) - set(cls.__dataclass_fields__))
        if unknown:
            raise ConfigError(
                f"preprocessing: {unknown[0]!r} is not a setting; known: {list(cls.__dataclass_fields__)}."
            )
        settings = dict(values)
        for name in ("mean", "std"):
            if name in settings:
                settings[name] = tuple(float(value) for value in settings[name])
        return cls(**settings)

    def to_json(self) -> str:
        """Return the settings as JSON text."""
        return json.dumps(self.to_dict(), indent=2)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Build the preprocessing from the result of `to_json`."""
        return cls.from_dict(json.loads(text))

    @classmethod
    def from_transformers(cls, config: Mapping[str, Any]) -> Self:
        """Read a tower's `preprocessor_config.json`.

        Args:
            config: The file as a dict. `size` may be a number, {"shortest_edge": n} or {"height": n, "width": n}. With
                a crop (`crop_size`, `crop_pct`, or `do_center_crop`) or a shortest edge, the centre is cropped;
                otherwise the picture is squashed.

        Raises:
            ConfigError: The size is missing or does not give square pictures.
        """
        size = config.get("size", config.get("crop_size"))
        cropped = bool(config.get("do_center_crop", "crop_size" in config))
        crop = _side(config.get("crop_size")) if cropped and config.get("crop_size") else None
        if isinstance(size, Mapping) and "shortest_edge" in size:
            shortest, resize = int(size["shortest_edge"]), "shortest-crop"
        else:
            shortest = _side(size)
            # In older configurations, a single number is the shorter side if a crop follows, else both sides.
            resize = "shortest-crop" if cropped and not isinstance(size, Mapping) else "squash"
        side = crop or shortest
        if config.get("crop_pct") and shortest < 384:  # ConvNeXt scales by 1 / crop_pct, then crops
            side, shortest, resize = shortest, int(shortest / float(config["crop_pct"])), "shortest-crop"
        if resize == "squash":
            side = shortest
        normal = bool(config.get("do_normalize", True))
        mean = tuple(config.get("image_mean") or CLIP_MEAN) if normal else (0.0, 0.0, 0.0)
        std = tuple(config.get("image_std") or CLIP_STD) if normal else (1.0, 1.0, 1.0)
        return cls.from_dict(
            {
                "size_px": side,
                "resize": resize,
                "mean": mean,
                "std": std,
                "interpolation": _filter_name(config.get("resample", 3)),
                "shortest_px": shortest if shortest != side else None,
                "rescale": float(config.get("rescale_factor", 1.0 / 255.0)) if config.get("do_rescale", True) else 1.0,
            }
        )


@dataclass(frozen=True)
class JointPreprocess:
    """The preprocessing of several towers side by side: each sees the photograph in its own way.

    Attributes:
        parts: That of each tower.
    """

    parts: tuple[Preprocess, ...]

    def __call__(self, image: Image.Image) -> tuple[Float32[np.ndarray, "3 h w"], ...]:
        """Convert an RGB picture to one array for each tower."""
        return tuple(part(image) for part in self.parts)

    def read(
        self, source: str | os.PathLike[str] | bytes, *, max_pixels: int = MAX_PIXELS
    ) -> tuple[Float32[np.ndarray, "3 h w"], ...]:
        """Decode and preprocess a photograph for each tower, as each would alone: JPEGs are decoded at its size.

        Raises:
            PhotographError: The file cannot be used as a photograph.
        """
        return tuple(part.read(source, max_pixels=max_pixels) for part in self.parts)

    @property
    def digest(self) -> str:
        """SHA-256 of the settings; equal digests give equal arrays."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain values for JSON."""
        return {"towers": [part.to_dict() for part in self.parts]}


def preprocess_from_dict(values: Mapping[str, Any]) -> Preprocess | JointPreprocess:
    """Build the preprocessing of a model, with one tower or several, from the result of `to_dict`.

    Raises:
        ConfigError: A key is unknown or a value is not valid.
    """
    if "towers" in values:
        return JointPreprocess(tuple(Preprocess.from_dict(part) for part in values["towers"]))
    return Preprocess.from_dict(values)


def _to_multiple(px: float, multiple_px: int) -> int:
    return max(1, int(px / multiple_px + 0.5)) * multiple_px


def _side(size: Any) -> int:
    if isinstance(size, Mapping):
        if {"height", "width"} <= set(size) and size["height"] == size["width"]:
            return int(size["height"])
        if "shortest_edge" in size:
            return int(size["shortest_edge"])
    elif isinstance(size, (list, tuple)) and len(size) == 2 and size[0] == size[1]:
        return int(size[0])
    elif isinstance(size, int):
        return size
    raise ConfigError(
        f"preprocessor_config.json: size {size!r} does not give square pictures; "
        'give a number, {"shortest_edge": n} or {"height": n, "width": n}.'
    )


def _filter_name(resample: int | str) -> str:
    if isinstance(resample, str):
        return resample.lower()
    names = {int(value): name for name, value in _FILTERS.items()}
    if resample not in names:
        raise ConfigError(f"preprocessor_config.json: resample {resample!r} is not one of Pillow's filters.")
    return names[resample]
