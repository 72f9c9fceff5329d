"""The bandwidth: its schedule, its estimation, and the file of a run."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from swclip.data.manifest import Manifest, read_manifest
from swclip.data.splits import Splits, indices, read_splits
from swclip.errors import ArtefactError, ConfigError
from swclip.geo.coordinates import LocalFrame
from swclip.geo.kernels import kernel_weight
from swclip.geo.places import kth_place_m
from swclip.geo.semivariogram import feature_directions
from swclip.losses import ObjectiveConfig, TargetConfig
from swclip.training.bandwidth import (
    BandwidthConfig,
    adaptive_bandwidths_m,
    coarseness,
    estimate_bandwidths,
    resolve_bandwidths,
    semivariogram_of,
)
from swclip.training.config import TrainingConfig, load_recipe, write_config
from swclip.training.distributed import Process
from swclip.training.inputs import pair_noise_m
from swclip.training.loop import train
from swclip.training.run import read_run

LEADER = Process(0, 1, torch.device("cpu"))


@pytest.fixture(scope="module")
def data(town: Path) -> tuple[Manifest, Splits]:
    return read_manifest(town), read_splits(town / "splits.parquet")


def field(n: int = 500, length_m: float = 40.0, nugget: float = 0.2) -> tuple[np.ndarray, np.ndarray]:
    """Positions and 48 features that forget the place as exp(-d / length)."""
    rng = np.random.default_rng(7)
    positions = LocalFrame(52.2, 0.12).to_deg(rng.uniform(0, 700, (n, 2)))
    metres = LocalFrame.around(positions).to_xy_m(positions)
    distance = np.sqrt(((metres[:, None] - metres[None]) ** 2).sum(-1))
    root = np.linalg.cholesky((1 - nugget) * np.exp(-distance / length_m) + nugget * np.eye(n))
    # A mean that all share and dimensions of other sizes, as towers have them.
    return positions, (root @ rng.normal(size=(n, 48))) * rng.uniform(0.1, 9.0, 48) + 20.0


def nowhere(n: int) -> np.ndarray:
    return np.full(n, np.nan)


@given(factor=st.floats(1.0, 50.0), share=st.floats(0.0, 1.0), steps=st.integers(1, 300), at=st.integers(0, 299))
def test_the_schedule_falls_by_one_ratio_to_one(factor: float, share: float, steps: int, at: int) -> None:
    config = BandwidthConfig(coarse_factor=factor, coarse_share=share)
    values = [coarseness(step, steps, config) for step in range(steps)]
    assert all(1.0 <= value <= factor * (1 + 1e-12) for value in values)
    assert values[0] == pytest.approx(factor if share > 0.0 else 1.0)
    assert all(value == 1.0 for value in values[math.ceil(share * steps) :])
    assert all(a >= b for a, b in pairwise(values))
    narrowing = values[: math.ceil(share * steps)]
    ratios = [b / a for a, b in pairwise(narrowing)]
    assert ratios == pytest.approx(ratios[:1] * len(ratios))


def test_directions_have_no_mean_and_no_scale() -> None:
    _, features = field(200)
    features[:, 3] = 5.0  # says nothing
    vectors = feature_directions(features)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, rtol=1e-6)
    np.testing.assert_array_equal(vectors[:, 3], 0.0)
    np.testing.assert_allclose(vectors, feature_directions(features * 7.0 - 3.0), atol=1e-5)
    assert np.abs(vectors.mean(axis=0)).max() < 0.05
    np.testing.assert_array_equal(feature_directions(np.ones((4, 3))), 0.0)


@pytest.mark.parametrize("kernel", ["exponential", "gaussian", "bisquare", "tricube", "inverse-distance"])
def test_the_kernel_falls_to_1_e_where_the_features_do(kernel: str) -> None:
    positions, features = field()
    config = BandwidthConfig(form="semivariogram", factors=(1.0, 4.0))
    result = estimate_bandwidths(config, kernel, positions, nowhere(500), lambda rows: features[rows], 0)  # type: ignore[arg-type]
    assert result["used"] == "semivariogram"
    assert result["note"] is None
    length = result["semivariogram"]["correlation_length_m"]
    assert length == pytest.approx(40.0, rel=0.2)
    assert kernel_weight(np.array(length), result["base_m"], kernel) == pytest.approx(math.exp(-1), abs=1e-4)  # type: ignore[arg-type]
    assert result["bandwidths_m"] == pytest.approx([result["base_m"], 4 * result["base_m"]], abs=1e-3)
    json.dumps(result, allow_nan=False)


def test_noise_that_the_kernel_adds_is_subtracted_first() -> None:
    """All fixes 8 m: a pair's kernel is then as wide as the range of the recorded positions says, not wider."""
    positions, features = field()
    config = BandwidthConfig(form="semivariogram")
    features_of = lambda rows: features[rows]  # noqa: E731
    plain, noisy = (
        estimate_bandwidths(config, "exponential", positions, nowhere(500), features_of, 0, noise_m)
        for noise_m in (0.0, pair_noise_m(np.full(500, 8.0), TargetConfig()))
    )
    assert math.hypot(noisy["base_m"], 8.0, 8.0) == pytest.approx(plain["base_m"], abs=1e-2)
    huge = estimate_bandwidths(config, "exponential", positions, nowhere(500), features_of, 0, 1e4)
    assert huge["base_m"] == pytest.approx(plain["base_m"] / math.sqrt(2.0), abs=1e-3), "at most half of the square"
    assert pair_noise_m(np.array([np.nan, 3.0]), TargetConfig(default_accuracy_m=4.0)) == pytest.approx(5.0)
    assert pair_noise_m(np.full(5, 8.0), TargetConfig(gps_noise=False)) == 0.0


def test_without_structure_the_spacing_of_the_places_is_used() -> None:
    positions, features = field()
    features = features[np.random.default_rng(0).permutation(500)]
    config = BandwidthConfig(form="semivariogram", neighbour=2)
    result = estimate_bandwidths(config, "exponential", positions, nowhere(500), lambda rows: features[rows], 0)
    assert result["used"] == "adaptive"
    assert "no structure" in result["note"]
    adaptive_m = np.array(result["adaptive"]["photographs_m"])
    np.testing.assert_array_equal(adaptive_m, adaptive_bandwidths_m(positions, config))
    np.testing.assert_allclose(adaptive_m, np.clip(kth_place_m(positions, 2, 5.0), 5.0, 250.0), atol=6e-4)
    assert result["base_m"] == pytest.approx(np.exp(np.log(adaptive_m).mean()), abs=1e-3)
    json.dumps(result, allow_nan=False)


def test_pairs_with_different_headings_are_excluded_where_headings_are_known() -> None:
    positions, features = field(300)
    heading = np.random.default_rng(1).choice([0.0, 180.0], 300)
    # What looks the other way is another street: without the headings hardly anything is known within metres.
    features = feature_directions(features) * np.where(heading > 90, 1.0, -1.0)[:, None]
    features_of = lambda rows: features[rows]  # noqa: E731
    _, with_headings, record = semivariogram_of(BandwidthConfig(), positions, heading, features_of, 0)
    _, without, _ = semivariogram_of(BandwidthConfig(headings=False), positions, heading, features_of, 0)
    _, unknown, plain = semivariogram_of(
        BandwidthConfig(), positions, np.where(heading > 90, np.nan, 0.0), features_of, 0
    )
    assert record["same_heading"]
    assert with_headings.structured
    assert not without.structured
    assert plain["same_heading"] == (np.mean(heading < 90) >= 0.5)
    assert unknown.sill > 0


def test_the_sample_of_photographs_is_limited_and_deterministic() -> None:
    positions, features = field()
    requests = []

    def features_of(rows: np.ndarray) -> np.ndarray:
        requests.append(rows)
        return features[rows]

    config = BandwidthConfig(photographs=120)
    one, two = (semivariogram_of(config, positions, nowhere(500), features_of, 5)[2] for _ in range(2))
    assert one == two
    assert len(requests[0]) == one["photographs"] == 120
    semivariogram_of(config, positions, nowhere(500), features_of, 6)
    assert requests[2].tolist() != requests[0].tolist()


def test_areas_of_different_density_have_no_one_bandwidth(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A dense city beside a sparse one: adaptive, with a note; where spacings are similar nothing changes."""
    positions, features = field(300)
    frame = LocalFrame.around(positions)
    xy = frame.to_xy_m(positions)
    both = np.concatenate([positions, frame.to_deg(12.0 * xy + [90_000.0, 0.0])])
    twice = np.concatenate([features, features])
    features_of = lambda rows: twice[rows]  # noqa: E731
    cities = ["dense"] * 300 + ["sparse"] * 300
    config = BandwidthConfig(form="semivariogram")
    arguments = (both, nowhere(600), features_of, 0, 0.0)
    result = estimate_bandwidths(config, "exponential", *arguments, cities)
    assert result["used"] == "adaptive"
    assert "in sparse and" in result["note"]
    assert "too different for one bandwidth (spacing_ratio 3)" in result["note"]
    metres = np.array(result["adaptive"]["photographs_m"])
    assert np.median(metres[300:]) > 5 * np.median(metres[:300])
    json.dumps(result, allow_nan=False)
    one = estimate_bandwidths(config, "exponential", *arguments, ["one area"] * 600)
    assert (one["used"], one["note"]) == ("semivariogram", None)
    never = estimate_bandwidths(replace(config, spacing_ratio=1000.0), "exponential", *arguments, cities)
    assert never == one
    few = ["dense"] * 300 + ["sparse"] * 10 + ["dense"] * 290
    assert estimate_bandwidths(config, "exponential", *arguments, few)["used"] == "semivariogram", "ten places"
    alone = estimate_bandwidths(config, "exponential", positions, nowhere(300), features_of, 0, 0.0, ["dense"] * 300)
    assert alone == estimate_bandwidths(config, "exponential", positions, nowhere(300), features_of, 0)
    with caplog.at_level(logging.WARNING):
        more = {"positions_deg": both, "heading_deg": nowhere(600), "accuracy_m": nowhere(600), "cities": cities}
        resolved = _resolve(tmp_path, config, features_of, **more)
    assert "too different for one bandwidth" in caplog.text
    assert resolved.scale is not None
    assert resolved.figures["bandwidth"]["note"] == result["note"], "recorded in run.json"
    for wrong in (0.5, math.inf, math.nan):
        with pytest.raises(ConfigError, match="must be 1 or more, and finite"):
            BandwidthConfig(spacing_ratio=wrong)


def _resolve(folder: Path, config: BandwidthConfig, features_of: Callable[..., np.ndarray], **more: object):  # type: ignore[no-untyped-def]
    positions, _ = field(150)
    arguments = {
        "positions_deg": positions,
        "heading_deg": nowhere(150),
        "accuracy_m": nowhere(150),
        "cities": None,
        "features_of": features_of,
        "fingerprint": lambda: "tower",
        "steps": 10,
        "seed": 0,
    } | more
    return resolve_bandwidths(config, ObjectiveConfig(TargetConfig(alpha=0.7)), folder, LEADER, **arguments)


def test_bandwidths_are_read_back(tmp_path: Path) -> None:
    _, features = field(150)
    looks = []

    def features_of(rows: np.ndarray) -> np.ndarray:
        looks.append(len(rows))
        return features[rows]

    config = BandwidthConfig(form="semivariogram", factors=(1.0, 3.0), shares=(3.0, 1.0))
    first = _resolve(tmp_path, config, features_of)
    text = (tmp_path / "bandwidth.json").read_text()
    again = _resolve(tmp_path, config, features_of)
    assert looks == [150], "the second time nothing is looked at"
    assert (tmp_path / "bandwidth.json").read_text() == text
    assert first.objective == again.objective
    assert first.objective.targets.bandwidths_m == tuple(json.loads(text)["bandwidths_m"])
    assert first.objective.targets.shares == (3.0, 1.0)
    assert first.objective.targets.alpha == 0.7
    assert first.scale is None
    assert first.scale_at(0, np.arange(3)) is None
    # Another tower, seed or configuration is another question.
    _resolve(tmp_path, config, features_of, fingerprint=lambda: "other")
    _resolve(tmp_path, config, features_of, seed=1)
    _resolve(tmp_path, dataclasses.replace(config, place_m=0.0), features_of)
    assert len(looks) == 4
    values = json.loads((tmp_path / "bandwidth.json").read_text())
    del values["bandwidths_m"]
    (tmp_path / "bandwidth.json").write_text(json.dumps(values))
    with pytest.raises(ArtefactError, match="bandwidths_m"):
        _resolve(tmp_path, dataclasses.replace(config, place_m=0.0), features_of)


def test_adaptive_bandwidths_differ_by_photograph(tmp_path: Path) -> None:
    config = BandwidthConfig(form="adaptive", factors=(1.0, 2.0), coarse_factor=4.0, coarse_share=1.0)
    result = _resolve(tmp_path, config, lambda rows: pytest.fail("adaptive needs no features"))
    adaptive_m = adaptive_bandwidths_m(field(150)[0], config)
    assert result.scale is not None
    base = result.objective.targets.bandwidths_m[0]
    np.testing.assert_allclose(result.scale.numpy() * base, adaptive_m, rtol=1e-12)
    drawn = np.array([7, 3, 7])
    np.testing.assert_allclose(result.scale_at(0, drawn) * base, 4.0 * adaptive_m[drawn], rtol=1e-12)
    np.testing.assert_allclose(result.scale_at(5, drawn) * base, 2.0 * adaptive_m[drawn], rtol=1e-12)


def test_a_fallback_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    noise = np.random.default_rng(0).normal(size=(150, 6))
    with caplog.at_level(logging.WARNING):
        result = _resolve(tmp_path, BandwidthConfig(form="semivariogram"), lambda rows: noise[rows])
    assert "no structure" in caplog.text
    assert result.scale is not None
    assert result.figures["bandwidth"]["used"] == "adaptive"


def test_a_fixed_bandwidth_needs_no_features_and_writes_no_file(tmp_path: Path) -> None:
    result = _resolve(tmp_path, BandwidthConfig(), lambda rows: pytest.fail("it was asked"))
    assert result.objective == ObjectiveConfig(TargetConfig(alpha=0.7))
    assert result.figures == {}
    assert list(tmp_path.iterdir()) == []
    assert result.scale_at(0, np.arange(4)) is None
    coarse = dataclasses.replace(result, config=BandwidthConfig(coarse_factor=3.0))
    assert coarse.scale_at(0, np.arange(4)).tolist() == [3.0] * 4  # type: ignore[union-attr]
    assert coarse.scale_at(9, np.arange(4)) is None


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"form": "range"}, "form"),
        ({"factors": []}, "factors"),
        ({"factors": [1.0, -1.0]}, "factors"),
        ({"factors": [1.0, 2.0], "shares": [1.0]}, "give 2"),
        ({"neighbour": 0}, "neighbour 0"),
        ({"least_m": 300.0}, "least_m must not exceed"),
        ({"place_m": -1.0}, "place_m"),
        ({"max_lag_m": 0.5}, "max_lag_m"),
        ({"photographs": 1}, "at least 2"),
        ({"coarse_factor": 0.5}, "coarse_factor"),
        ({"coarse_share": 1.5}, "coarse_share"),
        ({"model": "cubic"}, "model"),
    ],
)
def test_invalid_values_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_recipe("sw-clip", {"bandwidth": values})


@pytest.mark.parametrize(("form", "frozen"), [("semivariogram", True), ("adaptive", False)])
def test_an_interrupted_run_ends_with_the_same_weights(
    form: str,
    frozen: bool,
    data: tuple[Manifest, Splits],
    small: Callable[..., TrainingConfig],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = small(
        steps=8,
        checkpoint_every=3,
        evaluate_every=0,
        freeze_image=frozen,
        bandwidth={"form": form, "factors": [1.0, 4.0], "coarse_factor": 3.0, "coarse_share": 0.8},
        objective={"neighbourhood": {"bandwidth_m": 0.0}},
    )
    monkeypatch.setenv("SWCLIP_CACHE", str(tmp_path / "cache"))
    write_config(tmp_path / "recipe.toml", config)
    assert load_recipe(str(tmp_path / "recipe.toml")) == config
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train(*data, config, whole)

    class Stop(Exception):
        pass

    def stop(what: str, done: int, _total: int) -> None:
        if what == "training" and done == 5:
            raise Stop

    with pytest.raises(Stop):
        train(*data, config, broken, progress=stop)
    # Numbers that another machine would find a little differently are read back, not found again.
    monkeypatch.setattr("swclip.training.bandwidth.estimate_bandwidths", lambda *_: pytest.fail("it was found again"))
    train(*data, config, broken)
    assert (whole / "model/model.safetensors").read_bytes() == (broken / "model/model.safetensors").read_bytes()
    assert (whole / "bandwidth.json").read_bytes() == (broken / "bandwidth.json").read_bytes()
    record = json.loads((whole / "bandwidth.json").read_text())
    assert read_run(whole).figures["bandwidth"]["bandwidths_m"] == record["bandwidths_m"]
    assert len(record["bandwidths_m"]) == 2
    if form == "semivariogram":
        assert {"nugget", "sill", "range_m", "lag_m", "gamma", "pairs", "photographs"} <= set(record["semivariogram"])
    else:
        rows = indices(data[1], data[0], "train")
        assert len(record["adaptive"]["photographs_m"]) == len(rows)


def test_an_estimated_bandwidth_trains_like_the_same_fixed_bandwidth(
    data: tuple[Manifest, Splits], small: Callable[..., TrainingConfig], tmp_path: Path
) -> None:
    """least_m = most_m makes every form find 30 m: the weights are those of 30 m given, to the last bit."""
    short = {"steps": 4, "evaluate_every": 0, "checkpoint_every": 0}
    fixed = {"targets": {"bandwidths_m": [30.0]}, "neighbourhood": {"bandwidth_m": 30.0}}
    fixed_m = small(**short, bandwidth={"form": "fixed"}, objective=fixed)
    train(*data, fixed_m, tmp_path / "given")
    expected = (tmp_path / "given/model/model.safetensors").read_bytes()
    for form in ("adaptive", "semivariogram"):
        result = small(
            **short,
            bandwidth={"form": form, "least_m": 30.0, "most_m": 30.0},
            objective={"neighbourhood": {"bandwidth_m": 0.0}},
        )
        train(*data, result, tmp_path / form)
        assert (tmp_path / form / "model/model.safetensors").read_bytes() == expected
    coarse = small(**short, bandwidth={"form": "fixed", "coarse_factor": 5.0}, objective=fixed)
    train(*data, coarse, tmp_path / "coarse")
    assert (tmp_path / "coarse/model/model.safetensors").read_bytes() != expected
