"""The parameters of the posterior, fitted on validation queries, and their file."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import torch

from swclip.errors import ArtefactError, ConfigError
from swclip.files import read_json, write_json
from swclip.geo.kernels import KernelName
from swclip.geo.spatial_smoothing import check_smoothing

POSTERIOR_NAME = "posterior.json"

EstimatorName = Literal["mode", "argmax", "geometric-median"]
ESTIMATOR_NAMES: tuple[EstimatorName, ...] = get_args(EstimatorName)

ESTIMATOR: EstimatorName = "mode"
"""The estimator of every answer, report and comparison for which no other is named."""


EffortName = Literal["fast", "balanced", "best"]
EFFORT_NAMES: tuple[EffortName, ...] = get_args(EffortName)

EFFORT: EffortName = "best"
"""The effort of an answer for which no other is named: all evidence that the gallery has."""


def check_effort(name: str) -> None:
    """Raise ConfigError for an unknown effort."""
    if name not in EFFORT_NAMES:
        raise ConfigError(f"effort {name!r} is not known; choose one of {', '.join(EFFORT_NAMES)}.")


def check_estimator(name: str) -> None:
    """Raise ConfigError for an unknown estimator."""
    if name not in ESTIMATOR_NAMES:
        raise ConfigError(f"estimator {name!r} is not known; choose one of {', '.join(ESTIMATOR_NAMES)}.")


@dataclass(frozen=True)
class PosteriorConfig:
    """Parameters that turn similarities into a posterior over the candidates.

    Attributes:
        location_temperature: Location logits are the cosine to a candidate's location embedding over this.
        image_temperature: Image logits are the largest cosine to a candidate's photographs over this.
        image_weight: Share w of the image evidence where a candidate has photographs, 0 (locations only, as in the
            paper) to 1.
        smoothing_m: Bandwidth of the spatial smoothing, metres; 0 for none.
        kernel: Kernel of the smoothing.
        image_hubness: Share of a photograph's hubness that is subtracted from its similarity; see
            `swclip.gallery.hubness`. 0 for none, 1/2 is CSLS.
        whitened_temperature: Image logits are, in addition, the largest cosine of the whitened features of the frozen
            tower over this; None where they are not used.
        verified_candidates: Number of the most probable candidates that are verified; 0 for none. See
            `swclip.retrieval.verification`.
        verified_temperature: The factor of a verified candidate is the exponential of its similarity over this.
        matcher: The keypoint matching model that compares them (`swclip.models.keypoints`), by its name on the hub or
            its folder; None where they are compared by patch features.
        matcher_fingerprint: Identity of that model.
        fast: The posterior fitted without whitened features, for `--effort fast`; None where it would be the same.
        balanced: The posterior without verification, for `--effort balanced`; None where it would be the same.

    Raises:
        ConfigError: A value is out of range.
    """

    location_temperature: float = 0.05
    image_temperature: float = 0.05
    image_weight: float = 0.0
    smoothing_m: float = 20.0
    kernel: KernelName = "gaussian"
    image_hubness: float = 0.0
    whitened_temperature: float | None = None
    verified_candidates: int = 0
    verified_temperature: float | None = None
    matcher: str | None = None
    matcher_fingerprint: str | None = None
    fast: PosteriorConfig | None = None
    balanced: PosteriorConfig | None = None

    def __post_init__(self) -> None:
        for name in ("location_temperature", "image_temperature", "whitened_temperature", "verified_temperature"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise ConfigError(f"posterior: {name} is {value}; it must be above 0.")
        if not 0 <= self.image_weight <= 1:
            raise ConfigError(f"posterior: image_weight is {self.image_weight}; it is a share from 0 to 1.")
        if not (math.isfinite(self.image_hubness) and self.image_hubness >= 0):
            raise ConfigError(f"posterior: image_hubness is {self.image_hubness}; it must be 0 or more.")
        if self.verified_candidates < 0:
            raise ConfigError(f"posterior: verified_candidates is {self.verified_candidates}; it must be 0 or more.")
        if self.verified_candidates and self.verified_temperature is None:
            raise ConfigError("posterior: verified_candidates needs a verified_temperature.")
        check_smoothing(self.smoothing_m, self.kernel)

    def at(self, effort: EffortName) -> PosteriorConfig:
        """The posterior of an effort."""
        if effort == "best":
            return self
        if effort == "fast" and self.fast is not None:
            return self.fast
        return self if self.balanced is None else self.balanced

    def to_dict(self) -> dict[str, Any]:
        """The values for JSON, without what a model does not have."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        for name in ("fast", "balanced"):
            values[name] = None if values[name] is None else values[name].to_dict()
        if not self.verified_candidates:
            del values["verified_candidates"]
        return {name: value for name, value in values.items() if value is not None}

    @classmethod
    def from_dict(cls, values: Any, where: str = "posterior") -> PosteriorConfig:
        """The inverse of `to_dict`.

        Posteriors of earlier versions have `location_hubness`, which was removed: 0 is accepted. They also name an
        `estimator`, chosen on the validation queries of that run: it is ignored, since answers of runs with different
        estimators cannot be compared.

        Args:
            values: The mapping.
            where: The name of its file in messages.

        Raises:
            ArtefactError: A key is unknown, a value is invalid, or `location_hubness` is not 0.
        """
        if isinstance(values, Mapping):
            if values.get("location_hubness", 0.0) != 0.0:
                raise ArtefactError(
                    f"{where}: location_hubness is {values['location_hubness']}, and the hubness of locations was "
                    "removed from swclip (it improved nothing: docs/results/parts.md); train the run again, without "
                    "hubness.locations in its recipe, and index again."
                )
            values = {name: value for name, value in values.items() if name not in ("location_hubness", "estimator")}
            for name in ("fast", "balanced"):
                if values.get(name) is not None:
                    values[name] = cls.from_dict(values[name], where)
        try:
            return cls(**values)
        except (TypeError, ValueError, ArithmeticError, ConfigError) as error:
            raise ArtefactError(f"{where}: not a posterior this swclip can use ({error}); fit it again.") from error


class _Scaled(Protocol):
    logit_scale: Any


def default_posterior(model: _Scaled) -> PosteriorConfig:
    """The posterior of a model without validation queries: its training temperature, and no image evidence."""
    with torch.no_grad():
        temperature = 1.0 / float(torch.as_tensor(model.logit_scale).clamp(max=math.log(100.0)).exp())
    return PosteriorConfig(location_temperature=temperature, image_temperature=temperature)


def write_posterior(folder: str | os.PathLike[str], config: PosteriorConfig) -> Path:
    """Write posterior.json into a model's folder."""
    path = Path(folder) / POSTERIOR_NAME
    write_json(path, config.to_dict())
    return path


def read_posterior(folder: str | os.PathLike[str]) -> PosteriorConfig | None:
    """Read the posterior of a model; None where none was fitted.

    Args:
        folder: A run, a gallery's model folder, or the model folder itself.

    Raises:
        ArtefactError: The file exists and cannot be used.
    """
    base = Path(folder)
    for path in (base / "model" / POSTERIOR_NAME, base / POSTERIOR_NAME):
        if path.is_file():
            return PosteriorConfig.from_dict(read_json(path, "the model's posterior"), str(path))
    return None
