"""Queries with captions and map tiles, from the function to the command line."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fixtures.models import TINY, tiny_model
from swclip.calibration.posterior_config import PosteriorConfig
from swclip.cli.app import run
from swclip.data.manifest import read_manifest, write_manifest
from swclip.errors import ConfigError, InputError
from swclip.gallery.build import build_gallery, manifest_candidates
from swclip.gallery.read_write import save_gallery
from swclip.models.config import ModalitiesConfig
from swclip.models.embed import Failure, embed_photographs, photograph_vectors, tower_features
from swclip.models.embed_modalities import chosen_modalities, count_modalities
from swclip.models.embed_modalities import embed_queries as query_vectors
from swclip.models.locator_model import LocatorModel
from swclip.models.whitening import Whitening
from swclip.retrieval.locator import Locator

Photographs = Callable[[int], list[Path]]
VIEWS = ModalitiesConfig(caption="builtin:small", map="builtin:small", map_size_px=16, head_width=8)
HERE = np.array([51.5, -0.1]) + np.arange(4)[:, None] * [2e-4, 1e-4]
TEXTS = ["Kirkgate", None, "  ", "a bakery in Briggate"]


def embed_queries(*arguments: Any, **options: Any) -> np.ndarray:
    return query_vectors(*arguments, **options).embeddings


@pytest.fixture(scope="module")
def plain() -> LocatorModel:
    return tiny_model(HERE, seed=1)


@pytest.fixture(scope="module")
def model() -> LocatorModel:
    return LocatorModel.create(dataclasses.replace(TINY, views=VIEWS), HERE, seed=1).eval()


@pytest.fixture
def tiles(tmp_path: Path) -> list[Path | None]:
    paths = [tmp_path / f"tile-{number}.png" for number in range(3)]
    for number, path in enumerate(paths):
        Image.new("RGB", (20, 20), (80 * number, 40, 200)).save(path)
    return [paths[0], paths[1], None, paths[2]]


def test_a_photograph_alone_equals_a_model_without_modalities(
    model: LocatorModel, plain: LocatorModel, photographs: Photographs, tiles: list[Path | None]
) -> None:
    paths = photographs(4)
    expected = embed_photographs(plain, paths)
    assert np.array_equal(embed_queries(model, paths), expected)
    assert np.array_equal(embed_queries(model, paths, TEXTS, tiles, use=["image"]), expected)
    assert np.array_equal(embed_queries(model, paths, [None] * 4, [None] * 4), expected)
    with_captions = embed_queries(model, paths, TEXTS)
    assert np.array_equal(with_captions[1:3], expected[1:3]), "those that have none, to the last bit"
    assert np.abs(with_captions[[0, 3]] - expected[[0, 3]]).max(axis=1).min() > 1e-3
    np.testing.assert_allclose(np.linalg.norm(with_captions, axis=1), 1.0, atol=1e-5)


def test_each_query_uses_its_modalities(
    model: LocatorModel, photographs: Photographs, tiles: list[Path | None]
) -> None:
    paths = photographs(4)
    image, caption, tile = (
        embed_queries(model, paths[:1], TEXTS[:1], tiles[:1], use=[name]) for name in ("image", "caption", "map")
    )
    assert model.views is not None
    together = image + caption + tile  # untrained weights are 1
    whole = embed_queries(model, paths, TEXTS, tiles)
    np.testing.assert_allclose(whole[:1], together / np.linalg.norm(together), atol=1e-5)
    without = embed_queries(model, ["not opened"], ["Kirkgate"], [tiles[0]], use=["map", "caption"])
    np.testing.assert_allclose(without, (caption + tile) / np.linalg.norm(caption + tile), atol=1e-5)
    alone = embed_queries(model, paths, TEXTS, tiles, use=["image", "map"])
    assert np.array_equal(alone[2], embed_photographs(model, paths)[2])
    assert count_modalities(("image", "caption", "map"), TEXTS, tiles) == {"image": 4, "caption": 2, "map": 3}


def test_whitened_features_are_those_of_the_photographs(
    model: LocatorModel, photographs: Photographs, tiles: list[Path | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = photographs(4)
    assert query_vectors(model, paths, TEXTS, tiles).whitened is None
    monkeypatch.setattr(model, "whitening", Whitening.fit(tower_features(model, paths)))
    expected = photograph_vectors(model, paths).whitened
    assert expected is not None
    assert np.array_equal(query_vectors(model, paths, TEXTS, tiles).whitened, expected)
    # Zeros have the same similarity with every photograph, and so no say.
    without = query_vectors(model, ["not opened"], ["Kirkgate"], [tiles[0]], use=["map", "caption"])
    assert without.whitened is not None
    assert without.whitened.shape == (1, expected.shape[1])
    assert not without.whitened.any()


def test_modalities_are_chosen(model: LocatorModel, plain: LocatorModel, tiles: list[Path | None]) -> None:
    assert chosen_modalities(plain, TEXTS, tiles) == ("image",)
    assert chosen_modalities(model, TEXTS, None) == ("image", "caption")
    assert chosen_modalities(model, [None, " "], tiles) == ("image", "map")
    assert chosen_modalities(model, TEXTS, tiles, ["map", "image", "map"]) == ("image", "map")
    with pytest.raises(ConfigError, match=r"the model has no map modality \(it has image\)"):
        chosen_modalities(plain, TEXTS, tiles, ["map"])
    with pytest.raises(ConfigError, match="modality 'sound' is unknown; choose from image, caption, map"):
        chosen_modalities(model, TEXTS, tiles, ["sound"])  # type: ignore[list-item]
    with pytest.raises(ConfigError, match="choose at least one of image, caption, map"):
        chosen_modalities(model, TEXTS, tiles, [])
    with pytest.raises(InputError, match="modality 'caption' is requested, but no query has it"):
        chosen_modalities(model, [None], tiles, ["caption"])


def test_a_query_without_requested_modalities_is_named(
    model: LocatorModel, photographs: Photographs, tiles: list[Path | None]
) -> None:
    paths = photographs(4)
    with pytest.raises(InputError, match=rf"{paths[1].name}: has none of .*\(caption\) \(2 queries in all\)"):
        embed_queries(model, paths, TEXTS, tiles, use=["caption"])
    with pytest.raises(InputError, match=rf"{paths[2].name}: has none of the requested modalities .*\(caption, map\);"):
        embed_queries(model, paths, TEXTS, tiles, use=["caption", "map"])
    with pytest.raises(ConfigError, match="3 captions for 4 photographs"):
        embed_queries(model, paths, TEXTS[:3])


def test_undecodable_files_are_reported_in_the_order_of_the_queries(
    model: LocatorModel, photographs: Photographs, tiles: list[Path | None], tmp_path: Path
) -> None:
    paths, broken = photographs(4), tmp_path / "broken.png"
    broken.write_text("no picture")
    failures: list[Failure] = []
    maps: list[Path | None] = [broken, tiles[1], None, broken]
    photographs_of_queries = [paths[0], tmp_path / "gone.jpg", paths[2], paths[3]]
    result = embed_queries(model, photographs_of_queries, TEXTS, maps, failures=failures)
    assert np.isnan(result).all(axis=1).tolist() == [True, True, False, True]
    assert [path.name for path, _ in failures] == ["broken.png", "gone.jpg", "broken.png"]
    with pytest.raises(InputError, match=r"1 photograph\(s\) cannot be used: .*gone\.jpg"):
        embed_queries(model, photographs_of_queries, TEXTS, tiles)
    with pytest.raises(InputError, match=r"2 photograph\(s\) cannot be used: .*broken\.png"):
        embed_queries(model, paths, TEXTS, maps)
    failures = []
    none = embed_queries(model, [tmp_path / "gone.jpg"], ["Kirkgate"], failures=failures)
    assert np.isnan(none).all()
    assert len(failures) == 1


def test_a_long_caption_is_cut_with_a_warning(
    model: LocatorModel, photographs: Photographs, caplog: pytest.LogCaptureFixture
) -> None:
    long = " ".join(["street"] * 300)
    with caplog.at_level(logging.WARNING):
        result = embed_queries(model, photographs(1), [long])
    assert "1 captions are longer than the text tower reads" in caplog.text
    assert np.isfinite(result).all()


@pytest.fixture
def made(
    model: LocatorModel, plain: LocatorModel, photographs: Photographs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> list[Path]:
    """A gallery of four photographs by each model; the photographs."""
    monkeypatch.chdir(tmp_path)
    paths = photographs(4)
    frame = pd.DataFrame({"image_id": [p.stem for p in paths], "image_path": [str(p) for p in paths]})
    manifest = write_manifest(tmp_path, frame.assign(lat_deg=HERE[:, 0], lon_deg=HERE[:, 1], city="Leeds"))
    for name, one in (("views", model), ("plain", plain)):
        gallery = build_gallery(one, manifest_candidates(manifest), manifest, posterior=PosteriorConfig(0.1, 0.1, 0.5))
        save_gallery(gallery, tmp_path / name, one)
    return paths


def test_the_locator_takes_captions_and_maps(made: list[Path], model: LocatorModel, tiles: list[Path | None]) -> None:
    locator, plain = Locator.from_gallery("views"), Locator.from_gallery("plain")
    assert [a.as_dict() for a in locator.locate(made)] == [a.as_dict() for a in plain.locate(made)]
    tile = tiles[0]
    assert tile is not None
    answer, *others = locator.locate(made, captions=TEXTS, maps=tiles)
    (same,) = locator.locate(made[0], captions="Kirkgate", maps=tile)
    assert answer.probability_within_50m == pytest.approx(same.probability_within_50m, rel=1e-4)
    assert (answer.lat_deg, answer.lon_deg) == (same.lat_deg, same.lon_deg)
    (bare,) = locator.locate(made[0])
    assert answer.probability_within_50m != bare.probability_within_50m
    assert len(others) == 3
    assert not np.array_equal(locator.posterior_of(made[0], "Kirkgate", tile), locator.posterior_of(made[0]))
    with pytest.raises(ConfigError, match="the model has no caption modality"):
        plain.locate(made[0], captions="Kirkgate")
    assert locator.gallery.meta["fingerprint"] == model.fingerprint


def test_options_of_the_command_line(
    made: list[Path], tiles: list[Path | None], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["locate", "views", str(made[0]), "--caption", "Kirkgate", "--map", str(tiles[0])]) == 0
    (result,) = json.loads(capsys.readouterr().out)
    expected = Locator.from_gallery("views").locate([made[0]], captions=["Kirkgate"], maps=[tiles[0]])
    assert result["probability_within_50m"] == expected[0].probability_within_50m
    assert run(["locate", "views", str(made[0]), str(made[1]), "--caption", "Kirkgate"]) != 0
    assert "--caption and --map need a single photograph, not 2" in capsys.readouterr().err
    assert run(["locate", "plain", str(made[0]), "--map", str(tiles[0])]) != 0
    assert "the model has no map modality" in capsys.readouterr().err
    assert run(["locate", "views", str(made[0]), "--map", "gone.png"]) != 0
    assert "map tile gone.png: there is no such file" in capsys.readouterr().err


def test_a_manifests_captions_and_maps(made: list[Path], tiles: list[Path | None], tmp_path: Path) -> None:
    bare = read_manifest(".")
    assert bare.captions == bare.map_paths == [None] * 4
    maps = [None if tile is None else tile.name for tile in tiles]
    more = write_manifest("more.parquet", bare.frame.assign(caption=TEXTS, map_path=maps))
    for manifest in (more, read_manifest("more.parquet")):
        assert manifest.captions == TEXTS
        assert manifest.map_paths == tiles
