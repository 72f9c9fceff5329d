"""The parameters of the posterior: their ranges, their file, and files of earlier versions."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from swclip.calibration.posterior_config import PosteriorConfig, default_posterior, read_posterior, write_posterior
from swclip.errors import ArtefactError, ConfigError
from swclip.gallery.gallery import Gallery

Make = Callable[..., Gallery]


def test_a_posterior_survives_its_file(tmp_path: Path) -> None:
    config = PosteriorConfig(0.02, 0.1, 0.3, 12.5, "exponential")
    assert read_posterior(tmp_path) is None
    (tmp_path / "model").mkdir()
    write_posterior(tmp_path / "model", config)
    assert read_posterior(tmp_path) == config == read_posterior(tmp_path / "model")
    (tmp_path / "model" / "posterior.json").write_text('{"location_temperature": -1}')
    with pytest.raises(ArtefactError, match=r"posterior\.json.*location_temperature is -1"):
        read_posterior(tmp_path)
    (tmp_path / "model" / "posterior.json").write_text('{"warmth": 1}')
    with pytest.raises(ArtefactError, match="warmth"):
        read_posterior(tmp_path)


@pytest.mark.parametrize(
    "values",
    [
        {"location_temperature": 0.0},
        {"image_temperature": float("nan")},
        {"image_weight": 1.2},
        {"smoothing_m": -1.0},
        {"kernel": "square"},
    ],
)
def test_invalid_values_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(values))):
        PosteriorConfig(**values)


def test_shares_below_0_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"image_hubness is -0\.5"):
        PosteriorConfig(image_hubness=-0.5)


@pytest.mark.parametrize("removed", [{}, {"location_hubness": 0.0}, {"estimator": "argmax"}])
def test_a_posterior_of_an_earlier_version_is_read(removed: dict[str, object]) -> None:
    values = {**PosteriorConfig(0.02, 0.1, 0.3, 12.5).to_dict(), **removed}
    del values["image_hubness"]
    assert PosteriorConfig.from_dict(values) == PosteriorConfig(0.02, 0.1, 0.3, 12.5)


def test_a_posterior_with_hubness_of_locations_is_refused() -> None:
    values = {**PosteriorConfig(0.02).to_dict(), "location_hubness": 0.5}
    with pytest.raises(ArtefactError, match=r"location_hubness is 0\.5.*removed.*train the run again"):
        PosteriorConfig.from_dict(values, "g/posterior.json")


def test_the_default_temperature_is_the_models_own(model: object) -> None:
    assert default_posterior(model).location_temperature == pytest.approx(math.exp(-3.0))
