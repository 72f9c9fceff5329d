"""Hubness against loops, in the posterior, its fit, and its files."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swclip.calibration.posterior_config import PosteriorConfig
from swclip.errors import ArtefactError, InputError, MismatchError
from swclip.gallery.gallery import Gallery
from swclip.gallery.hubness import Bank, bank_rows, mean_similarity, photograph_hubness, read_bank, write_bank
from swclip.gallery.inspect import verify
from swclip.gallery.read_write import load_gallery, save_gallery
from swclip.gallery.store import GalleryStore
from swclip.geo.distance import haversine_m
from swclip.retrieval.posterior import log_posterior
from swclip.retrieval.posterior_fit import fit_posterior

Make = Callable[..., Gallery]
Queries = Callable[..., np.ndarray]
CONFIG = PosteriorConfig(0.1, 0.07, 0.4, smoothing_m=0.0, image_hubness=0.8)


def _unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def _bank(gallery: Gallery, seed: int = 0) -> Bank:
    """Some of the gallery's photographs, and others."""
    others = _unit(np.random.default_rng(seed).normal(size=(40, gallery.dim)))
    rows = np.arange(0, len(gallery.image_ids), 2)
    embeddings = np.concatenate([gallery.image_embeddings[rows], others]).astype(np.float16)
    return Bank(embeddings, [gallery.image_ids[row] for row in rows] + [f"other {i}" for i in range(40)])


def _measured(gallery: Gallery) -> Gallery:
    bank = _bank(gallery)
    return replace(gallery, image_hubness=photograph_hubness(gallery.image_embeddings, gallery.image_ids, bank))


def test_hubness_equals_a_loop(make_gallery: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("swclip.gallery.hubness._ROWS_AT_ONCE", 7)
    gallery = make_gallery(0)
    bank = _bank(gallery)
    hubness = photograph_hubness(gallery.image_embeddings, gallery.image_ids, bank)

    def loop(vector: np.ndarray, own: str | None) -> float:
        cosines = [
            float(np.dot(vector, other.astype(np.float32)))
            for other, image_id in zip(bank.embeddings, bank.image_ids, strict=True)
            if image_id != own
        ]
        return sum(sorted(cosines)[-30:]) / 30

    pairs = zip(gallery.image_embeddings, gallery.image_ids, strict=True)
    np.testing.assert_allclose(hubness, [loop(v, image_id) for v, image_id in pairs], atol=1e-6)


def test_all_photographs_of_a_small_bank_count() -> None:
    bank = Bank(np.array([[1.0, 0.0], [0.0, 1.0]], dtype=np.float16), ["a", "b"])
    axes = np.eye(2, dtype=np.float32)
    assert mean_similarity(axes, bank, np.array([-1, -1]), 10).tolist() == [0.5, 0.5]
    assert mean_similarity(axes, bank, np.array([0, -1]), 1).tolist() == [0.0, 1.0]
    alone = Bank(bank.embeddings[:1], ["a"])
    assert mean_similarity(axes[:1], alone, np.array([0])).tolist() == [0.0], "the bank has no other photograph"


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 1000), data=st.data())
def test_the_order_of_the_bank_and_a_rotation_do_not_matter(make_gallery: Make, seed: int, data: st.DataObject) -> None:
    gallery = make_gallery(seed, places=6, with_photographs=6)
    bank = Bank(
        _unit(np.random.default_rng(seed).normal(size=(14, gallery.dim))).astype(np.float16), list("abcdefghijklmn")
    )
    order = np.array(data.draw(st.permutations(range(14))))
    own = np.full(6, -1)
    reference = mean_similarity(gallery.location_embeddings, bank, own, 4)
    moved = Bank(bank.embeddings[order], [bank.image_ids[i] for i in order])
    np.testing.assert_allclose(mean_similarity(gallery.location_embeddings, moved, own, 4), reference, atol=1e-6)
    turn = np.linalg.qr(np.random.default_rng(seed).normal(size=(gallery.dim, gallery.dim)))[0]
    turned = Bank((bank.embeddings.astype(np.float64) @ turn).astype(np.float16), bank.image_ids)
    rotated = mean_similarity((gallery.location_embeddings @ turn).astype(np.float32), turned, own, 4)
    np.testing.assert_allclose(rotated, reference, atol=2e-3)


def test_a_bank_is_a_uniform_sample() -> None:
    np.testing.assert_array_equal(bank_rows(5), np.arange(5))
    drawn = bank_rows(1000, most=100)
    assert len(set(drawn.tolist())) == 100
    assert (np.diff(drawn) > 0).all()
    assert 300 < drawn.mean() < 700
    np.testing.assert_array_equal(drawn, bank_rows(1000, most=100))


def test_the_posterior_subtracts_hubness_from_each_image_similarity(make_gallery: Make, make_queries: Queries) -> None:
    gallery, query = _measured(make_gallery(1)), make_queries(1)
    assert gallery.image_hubness is not None
    reference = np.exp(log_posterior(query, gallery, CONFIG))
    for row, q in enumerate(query):
        location = [math.exp(float(np.dot(q, u)) / 0.1) for u in gallery.location_embeddings]
        p_loc = [x / sum(location) for x in location]
        best: dict[int, float] = {}
        for at, v, r in zip(gallery.image_rows, gallery.image_embeddings, gallery.image_hubness, strict=True):
            best[int(at)] = max(best.get(int(at), -9.0), float(np.dot(q, v)) - 0.8 * float(r))
        image = {m: math.exp(s / 0.07) for m, s in best.items()}
        reach = sum(p_loc[m] for m in best)
        oracle = [
            0.6 * p + 0.4 * reach * image[m] / sum(image.values()) if m in image else p for m, p in enumerate(p_loc)
        ]
        np.testing.assert_allclose(reference[row], oracle, rtol=2e-4, atol=1e-9)


def test_a_half_is_csls(make_gallery: Make, make_queries: Queries) -> None:
    """2 cos(q, m) - r_q - r_m orders the candidates as the posterior with 1/2 does, whatever r_q is."""
    gallery = make_gallery(2, with_photographs=30, photographs=30)
    gallery = _measured(replace(gallery, image_rows=np.arange(30)))
    query, bank = make_queries(2), _bank(gallery)
    assert gallery.image_hubness is not None
    of_query = mean_similarity(query, bank, np.full(len(query), -1))
    csls = 2 * query @ gallery.image_embeddings.T - of_query[:, None] - gallery.image_hubness
    reference = log_posterior(query, gallery, PosteriorConfig(0.1, 0.1, 1.0, smoothing_m=0.0, image_hubness=0.5))
    np.testing.assert_array_equal(np.argsort(-reference, axis=1), np.argsort(-csls, axis=1))


def test_a_share_of_0_changes_nothing_and_another_needs_measured_hubness(
    make_gallery: Make, make_queries: Queries
) -> None:
    gallery, query = make_gallery(3), make_queries(3)
    plain = replace(CONFIG, image_hubness=0.0)
    np.testing.assert_array_equal(log_posterior(query, gallery, plain), log_posterior(query, _measured(gallery), plain))
    with pytest.raises(MismatchError, match=r"was not measured.*swclip index"):
        log_posterior(query, gallery, CONFIG)


def _town_with_hubs(seed: int) -> tuple[Gallery, np.ndarray, np.ndarray]:
    """All photographs share a direction, of which one gallery photograph in eight has much and the others little."""
    generator = np.random.default_rng(seed)
    places = np.array([51.5, -0.1]) + generator.uniform(-0.005, 0.005, (120, 2))
    own, shared = _unit(generator.normal(size=(120, 24))), _unit(generator.normal(size=(1, 24)))
    hub = np.arange(120)[:, None] % 8 == 0
    indexed = _unit(own + np.where(hub, 1.2, 0.4) * shared)

    def photographs(at: np.ndarray) -> np.ndarray:
        return _unit(own[at] + shared + 0.1 * generator.normal(size=(len(at), 24)))

    bank = Bank(photographs(np.repeat(np.arange(120), 3)).astype(np.float16), [str(i) for i in range(360)])
    queries = generator.choice(120, 90)
    uninformative, ids = np.repeat(shared, 120, axis=0), [f"p{i}" for i in range(120)]
    gallery = Gallery([f"c{i}" for i in range(120)], places, [None] * 120, uninformative, indexed, np.arange(120), ids)
    hubness = photograph_hubness(indexed, ids, bank)
    return replace(gallery, image_hubness=hubness), photographs(queries), places[queries]


def test_the_fit_tries_the_shares_and_takes_one_where_there_are_hubs() -> None:
    gallery, query, truth = _town_with_hubs(0)
    without, tried = (fit_posterior(query, truth, gallery, image_hubness=shares) for shares in ((), (0.5, 1.0)))
    assert without.config.image_hubness == 0.0
    assert tried.config.image_hubness in (0.5, 1.0)
    assert tried.score < 0.8 * without.score


def test_the_fit_is_the_best_of_its_grid_by_brute_force(make_gallery: Make) -> None:
    gallery = _measured(make_gallery(4))
    generator = np.random.default_rng(0)
    at = generator.integers(0, 30, 40)
    query = _unit(gallery.location_embeddings[at] + 0.3 * generator.normal(size=(40, gallery.dim)))
    truth, temperatures, weights, shares = gallery.positions_deg[at], (0.05, 0.3), (0.0, 0.5), (0.5, 1.0)
    fit = fit_posterior(
        query,
        truth,
        gallery,
        temperatures=temperatures,
        image_weights=weights,
        smoothings_m=(0.0,),
        image_hubness=shares,
    )
    scores = {}
    for t_l, t_i, w in np.ndindex(2, 2, 2):
        for beta in (0.0, *shares):
            config = PosteriorConfig(temperatures[t_l], temperatures[t_i], weights[w], 0.0, image_hubness=beta)
            p, total = np.exp(log_posterior(query, gallery, config).astype(np.float64)), 0.0
            for own, true in zip(p, truth, strict=True):
                k = np.exp(-haversine_m(*gallery.positions_deg.T, true[0], true[1]) / 25.0)
                total -= math.log(0.99 * float(own @ k) + 0.01 * float(k.mean()))
            scores[config] = total / len(query)
    assert fit.score == pytest.approx(min(scores.values()), rel=1e-5)


def test_a_gallery_keeps_its_hubness(make_gallery: Make, model: object, tmp_path: Path) -> None:
    gallery = _measured(make_gallery(6))
    save_gallery(gallery, tmp_path / "gallery", model)
    again = load_gallery(tmp_path / "gallery")
    assert gallery.image_hubness is not None
    assert again.image_hubness is not None
    by_id = dict(zip(gallery.image_ids, gallery.image_hubness, strict=True))
    assert again.image_hubness.tolist() == [by_id[image_id] for image_id in again.image_ids]
    save_gallery(replace(gallery, image_hubness=None), tmp_path / "plain", model)
    assert load_gallery(tmp_path / "plain").image_hubness is None
    with pytest.raises(InputError, match="image_hubness has shape"):
        replace(gallery, image_hubness=gallery.image_hubness[:-1])


def test_a_bank_survives_its_file(make_gallery: Make, tmp_path: Path) -> None:
    bank = _bank(make_gallery(7))
    assert read_bank(tmp_path) is None
    (tmp_path / "model").mkdir()
    path = write_bank(tmp_path / "model", bank)
    for where in (tmp_path, tmp_path / "model"):
        again = read_bank(where)
        assert again is not None
        assert again.image_ids == bank.image_ids
        np.testing.assert_array_equal(again.embeddings, bank.embeddings)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ArtefactError, match=r"bank\.safetensors.*train"):
        read_bank(tmp_path)
    write_bank(tmp_path / "model", Bank(bank.embeddings, bank.image_ids[1:]))
    with pytest.raises(ArtefactError, match="differ in number"):
        read_bank(tmp_path)


def test_a_gallery_with_the_column_of_location_hubness_is_read_and_grows(
    make_gallery: Make, model: object, tmp_path: Path
) -> None:
    gallery = _measured(make_gallery(6))
    save_gallery(gallery, tmp_path / "gallery", model)
    store = GalleryStore.open(tmp_path / "gallery")
    store.table.add_columns(pa.field("location_hubness", pa.float32()))
    store.table.update(values={"location_hubness": 0.25})
    store = GalleryStore.open(tmp_path / "gallery")
    read = load_gallery(tmp_path / "gallery")
    by_id = dict(zip(gallery.image_ids, gallery.image_hubness, strict=True))
    assert read.image_hubness.tolist() == [by_id[image_id] for image_id in read.image_ids]
    assert verify(store, "tiny-0") == []
    entries = store.read().slice(0, 3)
    names = pa.array([f"new{i}" for i in range(3)])
    entries = entries.set_column(entries.schema.get_field_index("image_id"), store.schema.field("image_id"), names)
    hubness = pa.array(np.full(3, 0.5, dtype=np.float32))
    entries = entries.set_column(
        entries.schema.get_field_index("image_hubness"), store.schema.field("image_hubness"), hubness
    )
    assert store.append(entries).inserted == 3
    assert store.upsert(entries).updated == 3
    assert len(load_gallery(tmp_path / "gallery").image_ids) == 28
