"""A gallery on disk answers like the same one in memory: exactly with a complete shortlist, else approximately."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from swclip.calibration.posterior_config import PosteriorConfig
from swclip.errors import ArtefactError, ConfigError, InputError, MismatchError
from swclip.gallery import ann
from swclip.gallery.gallery import Gallery
from swclip.gallery.index_build import build_index
from swclip.gallery.schema import EMBEDDINGS, vectors
from swclip.geo.distance import haversine_m
from swclip.models.photograph_vectors import PhotographVectors
from swclip.retrieval.locator import Locator
from swclip.retrieval.point_estimates import geometric_median
from swclip.retrieval.posterior import log_posterior
from swclip.retrieval.search import ShortlistSearch, embedding_bytes
from swclip.retrieval.shortlist import ShortlistConfig, Shortlister

Make = Callable[..., Gallery]
Photographs = Callable[[int], list[Path]]
META = {"fingerprint": "tiny-0"}
MIXED = PosteriorConfig(0.1, 0.07, 0.4, smoothing_m=150.0)
WHOLE = ShortlistConfig(k=10_000)


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def town(seed: int, places: int = 3000, dim: int = 16, photographs: int = 1500) -> Gallery:
    """A town whose embeddings change smoothly over the ground."""
    generator = np.random.default_rng(seed)
    ground = generator.uniform(-0.02, 0.02, (places, 2))
    waves = ground @ generator.normal(0, 150.0, (2, dim)) + generator.uniform(0, 6, dim)
    embeddings = unit(np.sin(waves) + 0.1 * generator.normal(size=(places, dim)))
    rows = np.sort(generator.choice(places // 2, photographs)) * 2
    return Gallery(
        [f"c{row:04d}" for row in range(places)],
        np.array([53.8, -1.55]) + ground,
        [("Leeds", "York", None)[row % 3] for row in range(places)],
        embeddings,
        unit(embeddings[rows] + 0.3 * generator.normal(size=(photographs, dim)) / np.sqrt(dim)),
        rows,
        [f"p{row:04d}" for row in range(photographs)],
        META,
    )


def queries_of(gallery: Gallery, seed: int, count: int = 12) -> np.ndarray:
    generator = np.random.default_rng([seed, 1])
    rows = generator.choice(len(gallery), count)
    return unit(gallery.location_embeddings[rows] + 0.1 * generator.normal(size=(count, gallery.dim)))


def entries(gallery: Gallery) -> pa.Table:
    """One row a photograph, and one a candidate without; in no order."""
    bare = np.setdiff1d(np.arange(len(gallery)), gallery.image_rows)
    candidate = np.concatenate([gallery.image_rows, bare])
    photograph = np.concatenate([np.arange(len(gallery.image_ids)), np.full(len(bare), -1)])
    order = np.random.default_rng(5).permutation(len(candidate))
    candidate, photograph, dim = candidate[order], photograph[order], gallery.dim
    none = pa.array(photograph < 0)
    images = np.zeros((len(candidate), dim), dtype=np.float32)
    images[photograph >= 0] = gallery.image_embeddings[photograph[photograph >= 0]]
    columns: dict[str, Any] = {
        "candidate_id": [gallery.candidate_ids[row] for row in candidate],
        "image_id": [gallery.image_ids[row] if row >= 0 else None for row in photograph],
        "lat_deg": gallery.positions_deg[candidate, 0],
        "lon_deg": gallery.positions_deg[candidate, 1],
        "city": pa.array([gallery.cities[row] for row in candidate], pa.string()),
        "location_embedding": pa.FixedSizeListArray.from_arrays(
            pa.array(gallery.location_embeddings[candidate].reshape(-1)), dim
        ),
        "image_embedding": pa.FixedSizeListArray.from_arrays(pa.array(images.reshape(-1)), dim, mask=none),
    }
    if gallery.image_hubness is not None:
        hubness = np.zeros(len(candidate), dtype=np.float32)
        hubness[photograph >= 0] = gallery.image_hubness[photograph[photograph >= 0]]
        columns["image_hubness"] = pa.array(hubness, mask=photograph < 0)
    if gallery.image_whitened is not None:
        whitened = np.zeros((len(candidate), gallery.image_whitened.shape[1]), dtype=np.float16)
        whitened[photograph >= 0] = gallery.image_whitened[photograph[photograph >= 0]]
        columns["image_whitened"] = vectors(whitened, photograph >= 0, np.float16)
    return pa.table(columns)


def shortlister_of(table: Any, config: ShortlistConfig | None = None, meta: dict[str, Any] = META) -> Shortlister:
    """With the indices that `on_disk` writes."""
    return Shortlister(table, meta, config, Path(table.uri).parents[1] / "index")


def disk_locator(
    table: Any, model: Any, posterior: PosteriorConfig | None = None, config: ShortlistConfig | None = None
) -> Locator:
    shortlister = shortlister_of(table, config)
    return Locator(shortlister.gallery, model, posterior, search=ShortlistSearch(shortlister))


@pytest.fixture
def on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    monkeypatch.setenv("LANCE_LOG", "error")
    import lancedb

    database = lancedb.connect(tmp_path / "table")

    def write(gallery: Gallery, *, indexed: bool = True) -> Any:
        table = database.create_table("entries", entries(gallery), mode="overwrite", on_bad_vectors="null")
        for column in (name for name in EMBEDDINGS if indexed and name in table.schema.names):
            build_index(tmp_path / "index", table, column, rebuild=True)
        return database.open_table("entries")

    return write


def test_entries_are_read_back(on_disk: Callable[..., Any]) -> None:
    gallery = town(0, 300, photographs=200)
    shortlister = shortlister_of(on_disk(gallery, indexed=False))
    light = shortlister.gallery
    assert light.candidate_ids == [gallery.candidate_ids[row] for row in np.lexsort(gallery.positions_deg.T[::-1])]
    number = {name: row for row, name in enumerate(gallery.candidate_ids)}
    photograph = {name: row for row, name in enumerate(gallery.image_ids)}
    part = shortlister.read(np.array([3, 4, 70, 299]))
    for row, name in enumerate(part.candidate_ids):
        assert name == light.candidate_ids[[3, 4, 70, 299][row]]
        assert np.array_equal(part.location_embeddings[row], gallery.location_embeddings[number[name]])
        assert part.positions_deg[row].tolist() == gallery.positions_deg[number[name]].tolist()
        assert part.cities[row] == gallery.cities[number[name]]
        assert part.image_ids_of(row) == gallery.image_ids_of(number[name])
    for row, name in enumerate(part.image_ids):
        assert np.array_equal(part.image_embeddings[row], gallery.image_embeddings[photograph[name]])
    assert part.meta == META


@pytest.mark.parametrize("indexed", [False, True])
@pytest.mark.parametrize("estimator", ["mode", "argmax", "geometric-median"])
def test_a_shortlist_of_all_candidates_gives_the_answer_of_the_whole_gallery(
    make_gallery: Make, model: Any, photographs: Photographs, on_disk: Callable[..., Any], indexed: bool, estimator: Any
) -> None:
    gallery, paths = make_gallery(1, places=80), photographs(4)
    whole = Locator(gallery, model, MIXED).locate(paths, estimator=estimator, region=None)
    disk = disk_locator(on_disk(gallery, indexed=indexed), model, MIXED, WHOLE)
    for disk_answer, memory_answer in zip(disk.locate(paths, estimator=estimator, region=None), whole, strict=True):
        assert (disk_answer.lat_deg, disk_answer.lon_deg) == pytest.approx(
            (memory_answer.lat_deg, memory_answer.lon_deg), abs=2e-7
        )
        assert [c.candidate_id for c in disk_answer.candidates] == [c.candidate_id for c in memory_answer.candidates]
        for a, b in zip(disk_answer.candidates, memory_answer.candidates, strict=True):
            assert a.probability == pytest.approx(b.probability, abs=1e-6)
            assert sorted(a.image_ids) == sorted(b.image_ids)
        assert (disk_answer.city, disk_answer.point_city) == (memory_answer.city, memory_answer.point_city)
        assert disk_answer.city_probability == pytest.approx(memory_answer.city_probability, abs=1e-6)
        assert [c.cell_id for c in disk_answer.cells] == [c.cell_id for c in memory_answer.cells]
        assert disk_answer.probability_within_50m == pytest.approx(memory_answer.probability_within_50m, abs=1e-6)
        assert (disk_answer.scored_share, disk_answer.left_out_at_most, disk_answer.region) == (1.0, None, None)


WITH_WHITENED = replace(MIXED, whitened_temperature=0.3)
CONFIGS = [replace(MIXED, image_weight=0.0), MIXED, replace(MIXED, image_weight=1.0), WITH_WHITENED]


def whitened_of(embeddings: np.ndarray) -> np.ndarray:
    """Twelve numbers that depend on the embedding, at the precision of the table."""
    mixed = np.random.default_rng(9).normal(size=(embeddings.shape[1], 12))
    return unit(np.tanh(3.0 * embeddings @ mixed)).astype(np.float16).astype(np.float32)


@pytest.mark.parametrize("config", CONFIGS)
def test_probabilities_are_those_of_the_whole_gallery(on_disk: Callable[..., Any], config: PosteriorConfig) -> None:
    gallery = town(1)
    embeddings = queries_of(gallery, 1, 20)
    queries = PhotographVectors(embeddings, whitened_of(embeddings))
    gallery = replace(gallery, image_whitened=whitened_of(gallery.image_embeddings))
    table = on_disk(gallery)
    truth = np.exp(log_posterior(queries, gallery, config).astype(np.float64))
    number = {name: row for row, name in enumerate(gallery.candidate_ids)}
    # Where the sample is the whole gallery the sums are exact; a sample of a third estimates them.
    for sample, tolerance in ((3000, 1e-4), (1000, 0.2)):
        shortlister = shortlister_of(table, ShortlistConfig(k=40, around=0, sample=sample))
        outside, believed, lists = [], [], 0
        for at, whole in enumerate(truth):
            listed = shortlister.shortlist(queries.take(slice(at, at + 1)), config)
            rows = [number[name] for name in listed.gallery.candidate_ids]
            assert np.exp(listed.log_posterior) == pytest.approx(whole[rows], rel=tolerance, abs=1e-7)
            assert np.exp(listed.log_posterior).sum() == pytest.approx(1.0 - listed.outside, abs=1e-9)
            outside.append(1.0 - whole[rows].sum())
            believed.append(listed.outside)
            lists += len(rows)
        assert believed == pytest.approx(outside, abs=10 * tolerance * max(outside) + 1e-6)
        assert np.mean(outside) > 0.02, "or nothing was left out"
        assert lists < 20 * 200


def test_the_geometric_median_depends_on_all_of_a_wide_posterior(on_disk: Callable[..., Any]) -> None:
    gallery, config = town(6), PosteriorConfig(0.3, 0.3, 0.5, smoothing_m=0.0)
    queries = queries_of(gallery, 6, 10)
    whole = geometric_median(log_posterior(queries, gallery, config).astype(np.float64), gallery.positions_deg)
    table = on_disk(gallery)
    away_m: dict[int, list[float]] = {}
    for sample in (3000, 1000, 1):
        shortlister = shortlister_of(table, ShortlistConfig(k=60, sample=sample))
        for query, truth in zip(queries, whole, strict=True):
            listed = shortlister.shortlist(query, config)
            if sample > 1:
                assert np.exp(listed.log_others).sum() == pytest.approx(listed.outside)
                assert 0.3 < listed.outside < 1.0
            point = listed.geometric_median(shortlister.gallery.positions_deg)
            away_m.setdefault(sample, []).append(float(haversine_m(*point, *truth)))
    # All of the gallery is in the first sample, a third in the second, and next to nothing in the third.
    assert max(away_m[3000]) < 1.0
    assert np.mean(away_m[1000]) < 0.25 * np.mean(away_m[1])


def test_the_neighbours_of_the_best_are_added(on_disk: Callable[..., Any]) -> None:
    gallery, config = town(2), PosteriorConfig(0.05, smoothing_m=60.0)
    table = on_disk(gallery)
    query = queries_of(gallery, 2, 1)[0]
    alone = shortlister_of(table, ShortlistConfig(k=5, around=0)).shortlist(query, config)
    joined = shortlister_of(table, ShortlistConfig(k=5, around=2)).shortlist(query, config)
    assert set(alone.rows) < set(joined.rows)
    # Positions of a town are a plane: metres by the cosine of its latitude.
    best = alone.gallery.positions_deg[np.argsort(-alone.log_posterior)[:2]]
    light = shortlister_of(table).gallery.positions_deg
    scale = np.array([111_195.0, 111_195.0 * np.cos(np.radians(53.8))])
    near = (np.linalg.norm((light[:, None] - best[None]) * scale, axis=2) < 4 * 60.0 * 0.999).any(axis=1)
    assert set(np.flatnonzero(near)) <= set(joined.rows)
    assert joined.outside < alone.outside


def test_a_small_shortlist_gives_nearly_the_answers_of_all_candidates(
    model: Any, photographs: Photographs, on_disk: Callable[..., Any]
) -> None:
    gallery = town(3, 4000, 8, 2000)
    config = PosteriorConfig(0.03, 0.03, 0.5, smoothing_m=30.0)
    paths = photographs(20)
    whole = Locator(gallery, model, config).locate(paths, region=None, estimator="mode")
    table = on_disk(gallery)
    disk = disk_locator(table, model, config, ShortlistConfig(k=200, sample=1000))
    result = disk.locate(paths, region=None, estimator="mode")
    same = [(a.lat_deg, a.lon_deg) == (b.lat_deg, b.lon_deg) for a, b in zip(result, whole, strict=True)]
    assert np.mean(same) >= 0.9
    assert all(0.0 < answer.scored_share < 0.5 for answer in result)
    for a, b in zip(result, whole, strict=True):
        assert sum(c.probability for c in a.candidates) <= 1.0 + 1e-9
        assert a.probability_within_50m == pytest.approx(b.probability_within_50m, abs=0.05)


def test_hubness_is_subtracted_where_the_table_has_it(on_disk: Callable[..., Any]) -> None:
    plain = town(4, 400, photographs=300)
    generator = np.random.default_rng(4)
    gallery = replace(plain, image_hubness=generator.uniform(0, 0.5, 300).astype(np.float32))
    config = replace(MIXED, image_hubness=1.0)
    query = queries_of(gallery, 4, 1)
    listed = shortlister_of(on_disk(gallery), WHOLE).shortlist(query[0], config)
    number = {name: row for row, name in enumerate(gallery.candidate_ids)}
    rows = [number[name] for name in listed.gallery.candidate_ids]
    truth = np.exp(log_posterior(query, gallery, config).astype(np.float64))[0, rows]
    assert np.exp(listed.log_posterior) == pytest.approx(truth, rel=1e-4, abs=1e-9)
    with pytest.raises(MismatchError, match="hubness"):
        shortlister_of(on_disk(plain), WHOLE).shortlist(query[0], config)


def test_the_best_by_whitened_features_are_in_the_shortlist(on_disk: Callable[..., Any]) -> None:
    gallery = town(5, 400, photographs=300)
    whitened = unit(np.random.default_rng(5).normal(size=(300, 12))).astype(np.float16).astype(np.float32)
    gallery = replace(gallery, image_whitened=whitened)
    table, number = on_disk(gallery), {name: row for row, name in enumerate(gallery.candidate_ids)}
    query = PhotographVectors(queries_of(gallery, 5, 1), whitened[7:8])
    shortlister = shortlister_of(table, ShortlistConfig(k=4, around=0))
    place = gallery.image_rows[7]
    for config, listed in ((WITH_WHITENED, True), (MIXED, False)):
        rows = [number[name] for name in shortlister.shortlist(query, config).gallery.candidate_ids]
        assert (place in rows) == listed
    with pytest.raises(MismatchError, match="the query has none"):
        shortlister.shortlist(query.embeddings, WITH_WHITENED)


def test_answers_come_from_the_opened_version(
    make_gallery: Make, model: Any, photographs: Photographs, on_disk: Callable[..., Any]
) -> None:
    gallery, paths = make_gallery(1, places=80), photographs(3)
    table = on_disk(gallery)
    other = on_disk(gallery)
    disk = disk_locator(table, model, MIXED, WHOLE)
    before = disk.locate(paths, region=None)
    other.delete(f"candidate_id = '{before[0].candidates[0].candidate_id}'")
    other.optimize()
    assert disk.locate(paths, region=None) == before


def test_a_gallery_without_photographs(
    make_gallery: Make, model: Any, photographs: Photographs, on_disk: Callable[..., Any]
) -> None:
    gallery = make_gallery(2, 60, 0, 0)
    paths = photographs(2)
    (*whole,) = Locator(gallery, model, MIXED).locate(paths, region=None)
    result = disk_locator(on_disk(gallery), model, MIXED, WHOLE).locate(paths, region=None)
    assert [(a.lat_deg, a.lon_deg) for a in result] == [(b.lat_deg, b.lon_deg) for b in whole]


def test_requests_that_need_every_candidate_are_refused(
    make_gallery: Make,
    model: Any,
    photographs: Photographs,
    on_disk: Callable[..., Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    gallery, paths = make_gallery(1), photographs(1)
    table = on_disk(gallery)
    assert embedding_bytes(table) == 4 * gallery.dim * (table.count_rows() + len(gallery.image_ids))
    disk = disk_locator(table, model, MIXED)
    for ask in (lambda: disk.posterior_of(paths[0]), lambda: disk.evidence(np.zeros((1, 8), dtype=np.float32))):
        with pytest.raises(ConfigError, match="no posterior over all"):
            ask()
    with pytest.raises(ConfigError, match=r"photographs together, a prior.*--search memory"):
        disk.locate([*paths, *paths], together=True, region=None)
    (answer,) = disk.locate(paths)
    assert answer.region is None
    assert "no regions" in caplog.text
    other = shortlister_of(on_disk(gallery), meta={"fingerprint": "tiny-9"})
    with pytest.raises(MismatchError, match="was made by model tiny-9"):
        Locator(other.gallery, model, search=ShortlistSearch(other))
    with pytest.raises(MismatchError, match="dimension 8"):
        shortlister_of(on_disk(gallery)).shortlist(np.zeros(5, dtype=np.float32), MIXED)
    with pytest.raises(ConfigError, match="k is 0"):
        ShortlistConfig(k=0)
    narrow = on_disk(gallery)
    narrow.drop_columns(["city"])
    with pytest.raises(ArtefactError, match="no column 'city'"):
        shortlister_of(narrow)
    torn = on_disk(gallery)
    torn.update(where=f"image_id = '{gallery.image_ids[0]}'", values={"lat_deg": 10.0})
    torn.update(where=f"image_id = '{gallery.image_ids[1]}'", values={"candidate_id": "c0"})
    with pytest.raises(ArtefactError, match="several positions"):
        shortlister_of(torn)
    with pytest.raises(InputError, match="the table changed"):
        ann.take(on_disk(gallery), np.array([10**9]), ["city"])
