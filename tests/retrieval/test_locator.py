"""From photographs to answers: their content, their formats, and files that are not photographs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pytest

from fixtures.models import tiny_model
from swclip.answers.formats import as_text
from swclip.answers.record import Answer
from swclip.calibration.conformal import Calibration
from swclip.calibration.posterior_config import PosteriorConfig
from swclip.data.manifest import write_manifest
from swclip.errors import ArtefactError, ConfigError, InputError, MismatchError
from swclip.gallery.build import build_gallery, manifest_candidates
from swclip.gallery.gallery import Gallery
from swclip.gallery.read_write import save_gallery
from swclip.geo.distance import geodesic_m
from swclip.ingest.named_photographs import named_photographs
from swclip.models.embed import embed_photographs, tower_features
from swclip.models.whitening import Whitening
from swclip.retrieval.locator import Locator
from swclip.retrieval.posterior import log_posterior
from swclip.retrieval.prior import Prior

Make = Callable[..., Gallery]
Photographs = Callable[[int], list[Path]]
CONFIG = PosteriorConfig(0.1, 0.1, 0.4, smoothing_m=150.0)


@pytest.fixture
def locator(make_gallery: Make, model: object) -> Locator:
    return Locator(make_gallery(1), model, CONFIG)


def test_an_answer_follows_from_the_posterior(locator: Locator, photographs: Photographs, model: object) -> None:
    paths, gallery = photographs(3), locator.gallery
    model.seen = 0
    answers = locator.locate(paths, top_k=4)
    assert model.seen == 3  # nothing of the gallery is encoded again
    query = embed_photographs(model, paths)
    smooth = np.exp(log_posterior(query, gallery, CONFIG, smooth=True).astype(np.float64))
    for row, answer in enumerate(answers):
        point = np.array([[answer.lat_deg, answer.lon_deg]])
        near = geodesic_m(np.repeat(point, len(gallery), axis=0), gallery.positions_deg) <= 50
        assert answer.probability_within_50m == pytest.approx(smooth[row, near].sum(), rel=1e-4)
        best = gallery.positions_deg[(query[row] @ gallery.location_embeddings.T).argmax()]
        assert (answer.argmax_lat_deg, answer.argmax_lon_deg) == pytest.approx(tuple(best), abs=1e-7)
        assert len(answer.candidates) == 4
        first = answer.candidates[0]
        assert (first.lat_deg, first.lon_deg) == (answer.lat_deg, answer.lon_deg)
        assert first.distance_m == 0
        for candidate in answer.candidates:
            at = gallery.candidate_ids.index(candidate.candidate_id)
            assert candidate.probability == pytest.approx(smooth[row, at], rel=1e-4)
            away = geodesic_m(point, [[candidate.lat_deg, candidate.lon_deg]])[0]
            assert candidate.distance_m == pytest.approx(away, abs=0.1)
            assert set(candidate.image_ids) == set(gallery.image_ids_of(at))
            assert candidate.city == gallery.cities[at]


# latitude, longitude, first candidate, probability within 50 m, share of the images in it, area of the region; made by
# `locator.locate` of these photographs in version 0.1.0.
GOLDEN = [
    ({"estimator": "mode"}, (51.5063535, -0.1055601, "c15", 0.42946257182664965, 0.0, 0.073018)),
    ({"estimator": "geometric-median"}, (51.5046497, -0.1043468, "c15", 0.0, 0.0, 0.073018)),
    ({"prior": Prior(city="city 1")}, (51.5027434, -0.1001003, "c28", 0.3636693525437219, 0.002005, 0.042273)),
    ({"together": True}, (51.5063535, -0.1055601, "c15", 0.29381894950110554, None, 0.099919)),
]


@pytest.mark.parametrize(("options", "expected"), GOLDEN)
def test_answers_of_a_fixed_gallery_keep_their_figures(
    make_gallery: Make, model: object, photographs: Photographs, options: dict[str, Any], expected: tuple[Any, ...]
) -> None:
    calibration = Calibration(np.linspace(0.01, 0.99, 99), (None,) * 99, 11, 25.0)
    paths = photographs(2) if "together" in options else photographs(2)[:1]
    (answer,) = Locator(make_gallery(1), model, CONFIG, calibration=calibration).locate(paths, **options)
    first, region = answer.candidates[0], answer.region
    assert region is not None
    assert (answer.lat_deg, answer.lon_deg, first.candidate_id) == expected[:3]
    assert answer.probability_within_50m == pytest.approx(expected[3], rel=1e-6)
    assert first.image_share == expected[4]
    assert region.area_km2 == pytest.approx(expected[5], rel=1e-6)


def test_argmax_of_locations_alone_is_the_papers_answer(
    locator: Locator, photographs: Photographs, model: object
) -> None:
    bare = Locator(locator.gallery, model, replace(CONFIG, image_weight=0.0))
    for answer in bare.locate(photographs(4), estimator="argmax"):
        assert (answer.lat_deg, answer.lon_deg) == (answer.argmax_lat_deg, answer.argmax_lon_deg)
        assert answer.estimator == "argmax"
    medians = locator.locate(photographs(4), estimator="geometric-median")
    places = {tuple(place.round(7)) for place in locator.gallery.positions_deg}
    assert any((answer.lat_deg, answer.lon_deg) not in places for answer in medians)


def test_mode_is_the_default(locator: Locator, photographs: Photographs) -> None:
    answers = locator.locate(photographs(4))
    assert answers == locator.locate(photographs(4), estimator="mode")
    assert {answer.estimator for answer in answers} == {"mode"}


def test_a_confident_posterior_has_probability_1_near_the_point(
    make_gallery: Make, model: object, photographs: Photographs
) -> None:
    gallery, path = make_gallery(2), photographs(1)[0]
    locations = gallery.location_embeddings.copy()
    locations[7] = embed_photographs(model, [path])[0]
    sure = Locator(replace(gallery, location_embeddings=locations), model, PosteriorConfig(0.001, smoothing_m=0.0))
    (answer,) = sure.locate(path)
    assert answer.candidates[0].candidate_id == "c7"
    assert answer.probability_within_50m == pytest.approx(1.0, abs=1e-3)


def test_the_gallerys_posterior_is_used_or_else_the_models_temperature(make_gallery: Make, model: object) -> None:
    gallery = make_gallery(3)
    assert Locator(gallery, model).posterior.location_temperature == pytest.approx(np.exp(-3.0))
    gallery.meta["posterior"] = CONFIG.to_dict()
    assert Locator(gallery, model).posterior == CONFIG


def test_an_effort_has_its_own_posterior_and_calibration(
    make_gallery: Make, model: Any, photographs: Photographs, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = photographs(4)
    monkeypatch.setattr(type(model), "whitening", Whitening.fit(tower_features(model, paths)))
    gallery = make_gallery(1)
    width, rows = model.whitening.dimensions, np.random.default_rng(3)
    whitened = rows.normal(size=(len(gallery.image_ids), width)).astype(np.float32)
    gallery = replace(gallery, image_whitened=whitened / np.linalg.norm(whitened, axis=1, keepdims=True))
    plain = PosteriorConfig(0.1, 0.1, 0.4, smoothing_m=150.0)
    config = replace(plain, image_temperature=0.2, whitened_temperature=0.1, fast=plain)
    cells = Locator(gallery, model, plain).region_cells
    tails = {"best": Calibration.of([0.2] * 9, cells), "fast": Calibration.of([0.6] * 9, cells)}
    calibration = replace(tails["best"], fast=tails["fast"])
    restored = Calibration.from_dict(json.loads(json.dumps(calibration.to_dict())))
    assert PosteriorConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    answers = {}
    for effort, posterior in (("fast", plain), ("balanced", replace(config, fast=None)), ("best", config)):
        locator = Locator(gallery, model, config, calibration=restored, effort=effort)
        alone = Locator(gallery, model, posterior, calibration=tails["fast" if effort == "fast" else "best"])
        answers[effort] = locator.locate(paths, region=0.5)
        assert answers[effort] == alone.locate(paths, region=0.5)
        assert locator.posterior_of(paths[:1]).argmax() == alone.posterior_of(paths[:1]).argmax()
    assert answers["fast"] != answers["best"] == answers["balanced"]
    with pytest.raises(ConfigError, match=r"effort 'slow' is not known; choose one of fast, balanced, best"):
        Locator(gallery, model, config, effort="slow")  # type: ignore[arg-type]


def test_an_undecodable_file_is_answered_with_an_error(locator: Locator, photographs: Photographs) -> None:
    paths = photographs(3)
    whole = locator.locate(paths)
    paths[1].write_text("a letter")
    answers = locator.locate([paths[0], paths[1], Path("nowhere.jpg"), paths[2]])
    assert [answer.error is None for answer in answers] == [True, False, False, True]
    assert "not an image" in str(answers[1].error)
    assert "no such file" in str(answers[2].error)
    assert answers[2].photograph == "nowhere.jpg"
    assert (answers[0], answers[3]) == (whole[0], whole[2])
    assert [answer.error is None for answer in locator.locate(paths[1])] == [False]


def test_a_diverged_model_is_distinguished_from_bad_photographs(locator: Locator, photographs: Photographs) -> None:
    locator.model.head.data.fill_(float("nan"))
    with pytest.raises(ArtefactError, match="diverged"):
        locator.locate(photographs(2))


def test_invalid_options_are_refused(locator: Locator, make_gallery: Make, model: object) -> None:
    with pytest.raises(ConfigError, match="top_k"):
        locator.locate([], top_k=0)
    with pytest.raises(ConfigError, match="geometric-median"):
        locator.locate([], estimator="guess")
    with pytest.raises(MismatchError, match="tiny-1"):
        Locator(make_gallery(1), type(model)(seed=1))
    assert locator.locate([]) == []


@pytest.fixture
def answers(locator: Locator, photographs: Photographs) -> list[Answer]:
    return locator.locate([*photographs(2), Path("nowhere, or somewhere.jpg")], top_k=3)


def test_json_is_a_list_of_complete_answers(answers: list[Answer]) -> None:
    read = json.loads(as_text(answers, "json"))
    assert [entry["photograph"] for entry in read] == [answer.photograph for answer in answers]
    assert read[0] == answers[0].as_dict()
    assert read[2]["lat_deg"] is None
    assert "no such file" in read[2]["error"]


def test_csv_has_a_row_for_each_photograph_and_rank(answers: list[Answer]) -> None:
    rows = list(csv.DictReader(io.StringIO(as_text(answers, "csv"))))
    assert [(row["photograph"], row["rank"]) for row in rows] == [
        *((answers[0].photograph, str(rank)) for rank in (1, 2, 3)),
        *((answers[1].photograph, str(rank)) for rank in (1, 2, 3)),
        ("nowhere, or somewhere.jpg", ""),
    ]
    assert float(rows[4]["lat_deg"]) == answers[1].candidates[1].lat_deg
    assert rows[4]["image_ids"].split(";") == ([*answers[1].candidates[1].image_ids] or [""])
    assert rows[6]["error"]


def test_geojson_opens_in_geopandas_longitude_first(answers: list[Answer], tmp_path: Path) -> None:
    path = tmp_path / "answers.geojson"
    path.write_text(as_text(answers, "geojson"))
    frame = geopandas.read_file(path)
    assert len(frame) == 3
    assert frame.crs.to_epsg() == 4326
    assert (frame.geometry.x[0], frame.geometry.y[0]) == (answers[0].lon_deg, answers[0].lat_deg)
    assert frame.geometry[2] is None
    assert frame["probability_within_50m"][1] == pytest.approx(answers[1].probability_within_50m)


def test_folders_and_patterns_are_expanded(
    photographs: Photographs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [str(path) for path in photographs(3)]
    folder = tmp_path / "photographs"
    (folder / "notes.txt").write_text("not asked")
    (folder / "deep").mkdir()
    (folder / "deep" / "IMG.JPG").write_bytes(b"named like one")
    assert named_photographs((str(folder),)) == sorted([*names, str(folder / "deep" / "IMG.JPG")])
    assert named_photographs((str(folder / "00[01].png"), "missing.jpg")) == [*names[:2], "missing.jpg"]
    (folder / "a[1].png").write_bytes(b"x")
    assert named_photographs((str(folder / "a[1].png"),)) == [str(folder / "a[1].png")]
    (tmp_path / "empty").mkdir()
    for argument in (str(tmp_path / "empty"), str(tmp_path / "*.webp")):
        with pytest.raises(InputError, match=r"empty|webp"):
            named_photographs((argument,))
    with pytest.raises(ConfigError, match="no photographs were named"):
        named_photographs(())


def test_a_gallery_folder_answers_with_its_model(photographs: Photographs, tmp_path: Path) -> None:
    positions = np.array([51.5, -0.1]) + np.arange(6)[:, None] * [2e-4, 1e-4]
    model, paths = tiny_model(positions, seed=3), photographs(6)
    frame = pd.DataFrame({"image_id": [p.stem for p in paths], "image_path": [str(p) for p in paths]})
    manifest = write_manifest(tmp_path / "m", frame.assign(lat_deg=positions[:, 0], lon_deg=positions[:, 1]))
    gallery = build_gallery(
        model, manifest_candidates(manifest), manifest, posterior=PosteriorConfig(0.1, 0.01, 1.0, 5)
    )
    save_gallery(gallery, tmp_path / "gallery", model)
    model.save(tmp_path / "run" / "model")
    moved = (tmp_path / "gallery").rename(tmp_path / "elsewhere")
    locator = Locator.from_gallery(moved)
    answers = locator.locate(paths)
    # The photographs are in the gallery, and the posterior heeds nothing else: each is found where it was taken.
    assert [answer.candidates[0].image_ids for answer in answers] == [(path.stem,) for path in paths]
    assert Locator.from_gallery(moved, tmp_path / "run").locate(paths) == answers
    tiny_model(positions, seed=4).save(tmp_path / "other" / "model")
    with pytest.raises(MismatchError, match=r"elsewhere was made by model .*other is model"):
        Locator.from_gallery(moved, tmp_path / "other")
    (moved / "model" / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(ArtefactError, match="cut short"):
        Locator.from_gallery(moved)
