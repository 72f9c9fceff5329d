"""A made-up evaluation that is quick to build: cities of a street grid, and systems with errors of a known size."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageDraw

from swclip.data.manifest import Manifest, write_manifest
from swclip.evaluation.answer_queries import Estimator
from swclip.evaluation.measure import Evaluation, MeasureConfig, measure
from swclip.evaluation.predictions import write_predictions
from swclip.files import write_json
from swclip.geo.coordinates import LocalFrame
from swclip.geo.distance import pairwise_haversine_m

CENTRES = {"Leeds": (53.8008, -1.5491), "York": (53.9600, -1.0873), "Bath": (51.3811, -2.3590)}


MakeUp = Callable[..., Evaluation]


def argmax(log_posterior: np.ndarray, positions_deg: np.ndarray) -> np.ndarray:
    return positions_deg[np.argmax(log_posterior, axis=1)]


ESTIMATORS: dict[str, Estimator] = {"mode": argmax, "argmax": argmax}


def street_places(
    generator: np.random.Generator, per_city: int, cities: dict[str, tuple[float, float]]
) -> pd.DataFrame:
    """Positions along streets 90 m apart, with city and block."""
    tables = []
    for city, (lat, lon) in cities.items():
        along, street = generator.uniform(-450, 450, per_city), generator.integers(-4, 5, per_city) * 90.0
        swap = generator.random(per_city) < 0.5
        xy = np.where(swap[:, None], np.stack([along, street], 1), np.stack([street, along], 1))
        xy = xy + generator.normal(0, 2.0, xy.shape)
        degrees = LocalFrame(lat, lon).to_deg(xy)
        block = [f"{city}-{int(x // 150)}-{int(y // 150)}" for x, y in xy]
        tables.append(
            pd.DataFrame({"lat_deg": degrees[:, 0], "lon_deg": degrees[:, 1], "city": city, "block_id": block})
        )
    return pd.concat(tables, ignore_index=True)


def make_up(
    seed: int = 0,
    *,
    per_city: int = 60,
    spread_m: float = 30.0,
    lost_share: float = 0.1,
    cities: dict[str, tuple[float, float]] | None = None,
    system: int = 0,
    config: MeasureConfig | None = None,
) -> Evaluation:
    """An evaluation of a system whose scores peak near the truth, but for a share of queries that are lost."""
    places = street_places(np.random.default_rng(seed), per_city, CENTRES if cities is None else cities)
    places.insert(0, "image_id", [f"photo-{row:05d}" for row in range(len(places))])
    asked = np.arange(len(places)) % 4 == 0
    queries = places[asked].reset_index(drop=True).assign(split="query")
    others = places[~asked].reset_index(drop=True)
    candidates = others.drop(columns="image_id").assign(
        candidate_id=[f"c{row}" for row in range(len(others))], image_ids=[[i] for i in others["image_id"]]
    )
    noise = np.random.default_rng([seed, system])
    truth = queries[["lat_deg", "lon_deg"]].to_numpy()
    there = candidates[["lat_deg", "lon_deg"]].to_numpy()
    distance = pairwise_haversine_m(truth, there)
    scores = -distance / spread_m + 1.5 * noise.normal(size=distance.shape)
    lost = noise.random(len(queries)) < lost_share
    scores[lost] = noise.normal(size=(int(lost.sum()), len(candidates)))
    log_posterior = (scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))).astype(np.float32)
    chunks = [log_posterior[start : start + 16] for start in range(0, len(queries), 16)]
    evaluation = measure(queries, candidates, chunks, ESTIMATORS, there, config or MeasureConfig(resamples=100))
    evaluation.report["made_with"] = {
        "swclip": "0.1.0",
        "manifest": {"digest": "ab12"},
        "splits": {"protocol": "made-up"},
    }
    return evaluation


def draw(evaluation: Evaluation, folder: Path) -> Manifest:
    """A manifest with a drawn picture for each query and candidate of an evaluation."""
    queries = evaluation.predictions[["image_id", "lat_deg", "lon_deg", "city"]]
    photographs = evaluation.candidates.assign(image_id=[ids[0] for ids in evaluation.candidates["image_ids"]])
    frame = pd.concat([queries, photographs[["image_id", "lat_deg", "lon_deg", "city"]]], ignore_index=True)
    folder.mkdir(parents=True, exist_ok=True)
    for row in frame.itertuples():
        colour = np.random.default_rng(int(row.lat_deg * 1e4)).integers(60, 220, 3)
        image = Image.new("RGB", (160, 120), (176, 200, 226))
        pen = ImageDraw.Draw(image)
        pen.rectangle([0, 84, 160, 120], fill=(96, 98, 102))
        pen.rectangle([20, 30, 90, 90], fill=tuple(int(c) for c in colour))
        pen.rectangle([100, 12, 150, 90], fill=tuple(int(c) for c in colour[::-1]))
        image.save(folder / f"{row.image_id}.jpg", quality=70)
    frame["image_path"] = [f"{image_id}.jpg" for image_id in frame["image_id"]]
    return write_manifest(folder / "manifest.parquet", frame)


@pytest.fixture(scope="session")
def made_up() -> MakeUp:
    """Makes an evaluation up; see `make_up`."""
    return make_up


@pytest.fixture(scope="session")
def draw_photographs() -> Callable[[Evaluation, Path], Manifest]:
    """Draws the photographs of an evaluation; see `draw`."""
    return draw


@pytest.fixture(scope="session")
def full() -> ModuleType:
    """The module that makes up an evaluation with everything a report may hold; see `full_evaluation.py`."""
    spec = importlib.util.spec_from_file_location("full_evaluation", Path(__file__).with_name("full_evaluation.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def save_report(evaluation: Evaluation, folder: Path, order: np.ndarray | None = None) -> Path:
    """An evaluation as the folder that `swclip evaluate` leaves, its queries in an order of one's own."""
    frame = evaluation.predictions
    write_predictions(folder / "predictions.parquet", frame if order is None else frame.iloc[order])
    write_json(folder / "report.json", evaluation.report)
    return folder


@pytest.fixture(scope="session")
def saved() -> Callable[..., Path]:
    """Saves an evaluation as a report folder; see `save_report`."""
    return save_report
