"""Embeddings of other tools: image search against a loop, file formats, similarities, leakage, errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pyproj import Transformer
from safetensors.numpy import save_file

import swclip
from swclip.cli.app import run
from swclip.data.manifest import read_manifest
from swclip.data.protocols import split
from swclip.data.splits import candidates_for, indices, read_splits
from swclip.errors import ConfigError, InputError, SwclipWarning
from swclip.evaluation.measure import MeasureConfig
from swclip.evaluation.report import report_of
from swclip.external.evaluate import evaluate_vectors
from swclip.external.measure_embeddings import photographs_by_candidate
from swclip.external.prediction_gallery import Space
from swclip.geo.coordinates import LocalFrame
from swclip.geo.distance import geodesic_m

pytestmark = pytest.mark.slow

QUICK = MeasureConfig(resamples=50)
Arrays = dict[str, Any]


def example(seed: int = 0, queries: int = 40, gallery: int = 60, val: int = 0, noise: float = 0.25) -> Arrays:
    """Photographs along a street, two at each gallery position; vectors that depend on the position."""
    generator = np.random.default_rng(seed)
    n = queries + gallery + val
    along = generator.uniform(0, 900, n)
    along[queries : queries + gallery] = np.repeat(np.linspace(0, 900, gallery // 2), 2)  # two at each position
    positions = LocalFrame(53.8, -1.55).to_deg(np.stack([along, np.zeros(n)], axis=1))
    waves = np.array([1.0, 2.0, 5.0, 11.0]) / 300.0
    vectors = np.concatenate([np.cos(along[:, None] * waves), np.sin(along[:, None] * waves)], axis=1)
    return {
        "ids": np.array([f"photo-{row}" for row in range(n)]),
        "lat_deg": positions[:, 0],
        "lon_deg": positions[:, 1],
        "embeddings": vectors + noise * generator.normal(size=vectors.shape),
        "role": np.array(["query"] * queries + ["gallery"] * gallery + ["val"] * val),
    }


def rows_of(arrays: Arrays, role: str) -> Arrays:
    chosen = arrays["role"] == role
    return {name: value[chosen] for name, value in arrays.items() if name != "role"}


@pytest.mark.parametrize("similarity", ["cosine", "l2"])
def test_answers_equal_a_loop(similarity: str) -> None:
    arrays = example()
    result = evaluate_vectors(arrays, similarity=similarity, config=QUICK)
    queries, entries = rows_of(arrays, "query"), rows_of(arrays, "gallery")
    expected, ranks = [], []
    for row in range(len(queries["ids"])):
        position = np.array([queries["lat_deg"][row], queries["lon_deg"][row]])
        scored = []
        for other in range(len(entries["ids"])):
            q, g = queries["embeddings"][row], entries["embeddings"][other]
            cosine = float(q @ g) / float(np.linalg.norm(q) * np.linalg.norm(g))
            scored.append(cosine if similarity == "cosine" else -float(((q - g) ** 2).sum()))
        order = np.argsort(-np.array(scored))
        places = np.stack([entries["lat_deg"], entries["lon_deg"]], axis=1)[order]
        distances = geodesic_m(np.broadcast_to(position, places.shape), places)
        expected.append(float(distances[0]))
        # Several photographs at one position are one candidate: its rank counts positions.
        seen: list[float] = []
        rank = 0
        for place, distance in zip(places[:, 1].round(7).tolist(), distances.tolist(), strict=True):
            if place not in seen:
                seen.append(place)
                if distance <= 25.0 and not rank:
                    rank = len(seen)
        ranks.append(rank)
    assert result.predictions["error_m"].tolist() == pytest.approx(expected, abs=0.02)
    assert result.predictions["rank_25m"].tolist() == ranks
    assert result.report.gallery_size == 30
    assert result.report.gallery_photographs == 60
    assert result.report.estimator == "mode"
    assert result.report.posterior["fitted"] is False
    assert report_of(json.loads(json.dumps(result.report.as_dict(), allow_nan=False))) == result.report


def test_both_similarities_agree_for_unit_vectors() -> None:
    arrays = example()
    arrays["embeddings"] = arrays["embeddings"] / np.linalg.norm(arrays["embeddings"], axis=1, keepdims=True)
    cosine, euclid = (evaluate_vectors(arrays, similarity=name, config=QUICK) for name in ("cosine", "l2"))
    assert euclid.report.error_m == cosine.report.error_m
    assert euclid.predictions["rank_25m"].tolist() == cosine.predictions["rank_25m"].tolist()


def test_l2_is_invariant_to_scale_and_shift_and_cosine_to_length() -> None:
    arrays = example()
    moved = {**arrays, "embeddings": 1000.0 * arrays["embeddings"] + 7000.0}
    assert (
        evaluate_vectors(moved, similarity="l2", config=QUICK).report.error_m
        == evaluate_vectors(arrays, similarity="l2", config=QUICK).report.error_m
    )
    lengths = np.random.default_rng(1).uniform(0.1, 10.0, (len(arrays["ids"]), 1))
    longer = {**arrays, "embeddings": lengths * arrays["embeddings"]}
    assert (
        evaluate_vectors(longer, config=QUICK).report.error_m == evaluate_vectors(arrays, config=QUICK).report.error_m
    )


def test_the_space_of_l2_orders_as_distances_do() -> None:
    generator = np.random.default_rng(2)
    gallery, queries = generator.normal(3.0, 2.0, (50, 8)), generator.normal(3.0, 2.0, (9, 8))
    space = Space.of(gallery.astype(np.float32), "l2")
    scores = space.queries(queries.astype(np.float32)) @ space.gallery(gallery.astype(np.float32)).T
    distance = np.linalg.norm(queries[:, None] - gallery[None], axis=2)
    assert (np.argsort(-scores, axis=1) == np.argsort(distance, axis=1)).all()


def test_figures_are_invariant_to_the_order_of_rows() -> None:
    arrays = example()
    order = np.random.default_rng(4).permutation(len(arrays["ids"]))
    again = evaluate_vectors({name: value[order] for name, value in arrays.items()}, config=QUICK).report
    report = evaluate_vectors(arrays, config=QUICK).report
    assert dict(again.error_m) == pytest.approx(dict(report.error_m))
    assert again.recall_at_k_25m == report.recall_at_k_25m


def frame_of(arrays: Arrays) -> pd.DataFrame:
    rows = {name: value for name, value in arrays.items() if name != "embeddings"}
    return pd.DataFrame({**rows, "embedding": list(arrays["embeddings"].astype(np.float32))})


@pytest.mark.parametrize("kind", ["npz", "parquet", "npy", "safetensors", "frame", "two files", "pairs", "bytes"])
def test_all_formats_give_the_same_figures(tmp_path: Path, kind: str) -> None:
    arrays = example()
    expected = evaluate_vectors(arrays, config=QUICK).report.error_m
    path = tmp_path / f"tool.{kind}"
    gallery: Path | None = None
    source: Any = path
    metadata = frame_of(arrays).drop(columns="embedding")
    if kind == "npz":
        np.savez(path, **arrays)
    elif kind == "parquet":
        frame_of(arrays).to_parquet(path)
    elif kind == "npy":
        np.save(path, arrays["embeddings"])
        metadata.to_csv(path.with_suffix(".csv"), index=False)
    elif kind == "safetensors":
        save_file({"descriptors": arrays["embeddings"].astype(np.float32)}, path)
        metadata.to_parquet(path.with_suffix(".parquet"))
    elif kind == "frame":
        source = frame_of(arrays)
    elif kind == "two files":
        source, gallery = tmp_path / "queries.npz", tmp_path / "gallery.npz"
        np.savez(source, **rows_of(arrays, "query"))
        np.savez(gallery, **rows_of(arrays, "gallery"))
    elif kind == "pairs":
        rest = {name: value for name, value in arrays.items() if name not in ("lat_deg", "lon_deg")}
        source = {**rest, "positions_deg": np.stack([arrays["lat_deg"], arrays["lon_deg"]], axis=1)}
    else:
        source = {**arrays, "ids": arrays["ids"].astype("S"), "split": arrays["role"]}
        del source["role"]
    assert dict(evaluate_vectors(source, gallery, config=QUICK).report.error_m) == pytest.approx(dict(expected))


@pytest.mark.parametrize(
    ("datum", "words"), [("TOKYO", "were converted to WGS84"), ("GCJ-02", "may be 1 km off")], ids=["TOKYO", "GCJ-02"]
)
def test_datums_of_positions_are_noted(datum: str, words: str) -> None:
    arrays = {**example(queries=5, gallery=10), "datum": np.repeat(datum, 15)}
    with pytest.warns(SwclipWarning, match=f"15 rows: .*{words}"):
        evaluate_vectors(arrays, config=QUICK)


@pytest.mark.parametrize("pair", [True, False])
def test_projected_positions(pair: bool) -> None:
    arrays = example()
    expected = evaluate_vectors(arrays, config=QUICK).report.error_m
    east, north = Transformer.from_crs(4326, 32630, always_xy=True).transform(arrays["lon_deg"], arrays["lat_deg"])
    rest = {name: value for name, value in arrays.items() if name not in ("lat_deg", "lon_deg")}
    utm: Arrays = {"utm": np.stack([east, north], axis=1)} if pair else {"UTM_easting": east, "UTM_northing": north}
    projected = {**rest, **utm}
    assert dict(evaluate_vectors(projected, crs="EPSG:32630", config=QUICK).report.error_m) == pytest.approx(
        dict(expected), abs=1e-3
    )
    with pytest.raises(ConfigError, match="--crs EPSG:32650"):
        evaluate_vectors(projected, config=QUICK)


def test_positions_in_vpr_file_names() -> None:
    arrays = example()
    expected = evaluate_vectors(arrays, config=QUICK).report.error_m
    east, north = Transformer.from_crs(4326, 32630, always_xy=True).transform(arrays["lon_deg"], arrays["lat_deg"])
    names = [f"db/@{e:.2f}@{n:.2f}@30@U@@@{i}@@@@@@@@.jpg" for i, (e, n) in enumerate(zip(east, north, strict=True))]
    named = {"paths": np.array(names), "embeddings": arrays["embeddings"], "role": arrays["role"]}
    assert dict(evaluate_vectors(named, config=QUICK).report.error_m) == pytest.approx(dict(expected), abs=0.05)
    broken = {**named, "paths": np.array([*names[:-1], "@1@2@99@U@@@@@@@@@@@.jpg"])}
    with pytest.raises(InputError, match=r"row 100.*zone '99'"):
        evaluate_vectors(broken, config=QUICK)


def test_validation_queries_fit_the_posterior() -> None:
    arrays = example(val=40)
    plain = {name: value[arrays["role"] != "val"] for name, value in arrays.items()}
    fixed = evaluate_vectors(plain, config=QUICK).report
    fitted = evaluate_vectors(arrays, config=QUICK).report
    assert fitted.n_queries == fixed.n_queries == 40
    assert fitted.gallery_photographs == 60  # validation queries are not in the gallery
    assert fitted.posterior["fitted"] is True
    assert fitted.posterior["fitted_on"] == "40 validation queries"
    assert fitted.posterior["image_weight"] == 1.0
    assert fitted.levels["cell_10"].log_score < fixed.levels["cell_10"].log_score
    hot = evaluate_vectors(plain, temperature=5.0, config=QUICK).report
    assert hot.posterior["image_temperature"] == 5.0
    assert hot.error_m == fixed.error_m  # the most similar candidate does not depend on the temperature


def test_a_share_of_the_queries_becomes_validation() -> None:
    arrays = example(queries=120)
    report = evaluate_vectors(arrays, val_share=0.3, config=QUICK).report
    counts = report.made_with["splits"]["counts"]
    assert counts["val"] + report.n_queries == 120
    assert 30 <= counts["val"] <= 70  # whole blocks, so not exactly a third
    assert report.posterior["fitted"] is True
    same = evaluate_vectors(arrays, val_share=0.3, config=QUICK).report
    assert same.error_m == report.error_m
    with pytest.raises(ConfigError, match="already"):
        evaluate_vectors(example(val=5), val_share=0.3, config=QUICK)
    with pytest.raises(ConfigError, match=r"1\.5"):
        evaluate_vectors(arrays, val_share=1.5, config=QUICK)


def test_queries_in_the_gallery_are_reported() -> None:
    arrays = example()
    clean = evaluate_vectors(arrays, config=QUICK).report.leakage["vectors"]
    assert (clean["same_id"]["count"], clean["same_vector"]["count"], clean["warnings"]) == (0, 0, [])
    leaky = {name: value.copy() for name, value in arrays.items()}
    leaky["embeddings"][0] = leaky["embeddings"][45]
    leaky["ids"][1] = leaky["ids"][50]
    report = evaluate_vectors(leaky, config=QUICK).report
    result = report.leakage["vectors"]
    assert result["same_vector"] == {"count": 1, "image_ids": ["photo-0"]}
    assert result["same_id"] == {"count": 1, "image_ids": ["photo-50"]}
    assert len(result["warnings"]) == 2
    assert report.leakage["warnings"][:2] == result["warnings"]
    assert report.n_queries == 40
    # The leakage report of the splits is included.
    assert report.leakage["query"]["n_training"] == 60


def broken(**changes: Any) -> Arrays:
    return {**example(), **changes}


def vectors_with(row: int, value: float) -> np.ndarray:
    vectors: np.ndarray = example()["embeddings"].copy()
    vectors[row] = value
    return vectors


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            broken(embeddings=vectors_with(4, np.nan)),
            r"row 5: the vector of 'photo-4' contains NaN or infinity \(1 of 100",
        ),
        (broken(embeddings=vectors_with(4, np.inf)), "row 5: the vector of 'photo-4' contains NaN"),
        (broken(embeddings=vectors_with(4, 0.0)), "1 of 40 vectors are zero"),
        (broken(embeddings=np.zeros((0, 8))), "shape"),
        (broken(embeddings=example()["embeddings"][:7]), "'ids' has 100 values, and there are 7 vectors"),
        (broken(embeddings=np.array([["a", "b", "c"]] * 100)), "numbers are needed"),
        (broken(ids=np.array(["same"] * 100)), r"row 2, column 'ids': 'same' occurs twice \(row 1\)"),
        (broken(role=np.array(["query"] * 100)), r"there is no row of the gallery \(100 query\)"),
        (broken(role=np.array(["gallery"] * 100)), "there is no query"),
        (broken(role=np.array(["query"] * 99 + ["what"])), "row 100, column 'role': 'what' is not a role"),
        (broken(lat_deg=np.full(100, 95.0)), "look swapped|not a latitude"),
        (broken(lat_deg=np.full(100, np.nan)), "one coordinate"),
        ({k: v for k, v in example().items() if k != "role"}, "no column gives the roles of the rows"),
        ({k: v for k, v in example().items() if k != "lat_deg"}, "no column for 'lat'"),
        ({k: v for k, v in example().items() if k != "ids"}, "no column for 'image_id'"),
        ({"ids": np.array(["a"])}, "none of its arrays is a matrix"),
    ],
)
def test_errors_name_the_row_and_what_to_do(arrays: Arrays, message: str) -> None:
    with pytest.raises(InputError, match=message):
        evaluate_vectors(arrays, config=QUICK)


def test_invalid_files_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "pickled.npz", ids=np.array(["a", 1], dtype=object), embeddings=np.eye(2))
    np.save(tmp_path / "bare.npy", np.eye(3))
    (tmp_path / "array.npz").write_bytes((tmp_path / "bare.npy").read_bytes())
    (tmp_path / "cut.npz").write_bytes(b"PK\x03\x04 cut")
    (tmp_path / "cut.safetensors").write_bytes(b"\x01")
    (tmp_path / "cut.csv").write_text("id\na\n")
    (tmp_path / "words.txt").write_text("x")
    frame_of(example()).drop(columns="embedding").to_parquet(tmp_path / "none.parquet")
    uneven = frame_of(example())
    uneven.at[3, "embedding"] = np.ones(3, dtype=np.float32)
    uneven.to_parquet(tmp_path / "uneven.parquet")
    for name, message in {
        "pickled.npz": "save ids as text",
        "bare.npy": r"bare\.csv",
        "cut.npz": "truncated",
        "array.npz": "cannot be read as",
        "cut.safetensors": "safetensors",
        "words.txt": "cannot be read from files of this kind",
        "none.parquet": "none of its columns contains lists",
        "uneven.parquet": "row 4, column 'embedding': contains 3 numbers",
        "nowhere.npz": "does not exist",
    }.items():
        with pytest.raises(InputError, match=message):
            evaluate_vectors(tmp_path / name, config=QUICK)
    (tmp_path / "bare.csv").write_text("id,lat,lon,role\na,1,2,query\n")
    with pytest.raises(InputError, match=r"contains 3 vectors, and .* has 1 rows"):
        evaluate_vectors(tmp_path / "bare.npy", config=QUICK)


def test_two_files_must_match() -> None:
    arrays = example()
    queries, gallery = rows_of(arrays, "query"), rows_of(arrays, "gallery")
    with pytest.raises(InputError, match="8 dimensions and the arrays of 5"):
        evaluate_vectors(queries, {**gallery, "embeddings": gallery["embeddings"][:, :5]}, config=QUICK)
    with pytest.raises(InputError, match="role 'query' in the gallery's file"):
        evaluate_vectors(queries, {**gallery, "role": np.array(["query"] * 60)}, config=QUICK)


def colours(town: Path) -> Arrays:
    """Mean colours of the town's photographs, which depend on their positions."""
    from PIL import Image

    manifest = read_manifest(town)
    pictures = [np.asarray(Image.open(path), dtype=np.float64).mean(axis=(0, 1)) for path in manifest.image_paths]
    return {"names": np.array([path.name for path in manifest.image_paths]), "features": np.stack(pictures)}


def test_vectors_of_a_manifest_use_its_splits(town: Path) -> None:
    manifest, splits = read_manifest(town), read_splits(town)
    arrays = colours(town)
    arrays = {
        **arrays,
        "names": np.append(arrays["names"], "stranger.jpg"),
        "features": np.vstack([arrays["features"], [1.0, 2.0, 3.0]]),
    }
    result = evaluate_vectors(arrays, similarity="l2", manifest=manifest, splits=splits, config=QUICK)
    report = result.report
    queries = indices(splits, manifest, "query")
    assert result.predictions["image_id"].tolist() == manifest.frame["image_id"].iloc[queries].tolist()
    assert report.posterior["fitted_on"] == "10 validation queries"
    assert report.leakage["vectors"]["vectors_not_of_the_manifest"] == 1
    assert report.made_with["manifest"]["digest"] == manifest.digest
    places = candidates_for(splits, "query")
    assert report.gallery_size == len(places)
    argmax = evaluate_vectors(
        arrays, similarity="l2", manifest=manifest, splits=splits, config=MeasureConfig("argmax", resamples=20)
    )
    vector = dict(zip(arrays["names"].tolist(), arrays["features"], strict=True))
    for row, name in zip(queries, argmax.predictions["predicted_lat_deg"], strict=True):
        q = vector[manifest.image_paths[row].name]
        best = min(
            (
                (float(((q - vector[f"{i}.jpg"]) ** 2).sum()), at)
                for at, ids in enumerate(places["image_ids"])
                for i in ids
            )
        )
        assert name == places["lat_deg"][best[1]]
    val = evaluate_vectors(arrays, similarity="l2", manifest=manifest, splits=splits, on="val", config=QUICK).report
    assert (val.on, val.posterior["fitted"]) == ("val", False)


def test_missing_vectors_and_other_manifests_are_refused(town: Path) -> None:
    manifest, splits = read_manifest(town), read_splits(town)
    arrays = colours(town)
    fewer = {name: value[5:] for name, value in arrays.items()}
    with pytest.raises(InputError, match="photographs of the queries have no vector, the first is 'p00-0'"):
        evaluate_vectors(fewer, manifest=manifest, splits=splits, config=QUICK)
    with pytest.raises(InputError, match="none of its ids"):
        evaluate_vectors(example(), manifest=manifest, splits=splits, config=QUICK)
    with pytest.raises(ConfigError, match="splits"):
        evaluate_vectors(arrays, manifest=manifest, config=QUICK)
    with pytest.raises(ConfigError, match="leave out the gallery"):
        evaluate_vectors(arrays, manifest=manifest, splits=splits, val_share=0.2, config=QUICK)


def test_photographs_are_assigned_to_the_nearest_candidate_of_a_grid(town: Path, tmp_path: Path) -> None:
    manifest = read_manifest(town)
    splits = split(manifest, "known-places", gallery="grid:40").write(tmp_path / "grid.parquet")
    places, ids = photographs_by_candidate(manifest, splits, "query")
    side = {manifest.frame["image_id"][row] for name in ("train", "val") for row in indices(splits, manifest, name)}
    assert {name for names in ids for name in names} == side
    at = manifest.frame.set_index("image_id")
    spots = places[["lat_deg", "lon_deg"]].to_numpy()
    for spot, names in enumerate(ids):
        for name in names:
            position = np.broadcast_to(at.loc[name, ["lat_deg", "lon_deg"]].to_numpy(dtype=float), spots.shape)
            assert geodesic_m(position, spots).argmin() == spot
    report = evaluate_vectors(colours(town), manifest=manifest, splits=splits, config=QUICK).report
    assert report.gallery_size == len(places)


def test_the_command(tmp_path: Path, town: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "megaloc.npz", **example(queries=120))
    out = tmp_path / "out"
    assert run(["evaluate", f"--embeddings={tmp_path / 'megaloc.npz'}", f"--out={out}", "--resamples=50"]) == 0
    printed = capsys.readouterr()
    assert printed.out.strip() == str(out / "report.json")
    assert "was not fitted" in printed.err
    assert sorted(path.name for path in out.iterdir()) == [
        "figures",
        "predictions.parquet",
        "report.html",
        "report.json",
    ]
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "<h1>megaloc</h1>" in page
    arguments = [f"--embeddings={tmp_path / 'megaloc.npz'}", f"--out={out}", "--resamples=50"]
    assert run(["evaluate", *arguments, "--similarity=l2", "--val-share=0.25", "--no-figures"]) == 0
    assert "was not fitted" not in capsys.readouterr().err
    assert not (out / "figures").exists()
    np.savez(tmp_path / "town.npz", **colours(town))
    arguments = [f"--embeddings={tmp_path / 'town.npz'}", f"--manifest={town}", f"--splits={town / 'splits.parquet'}"]
    assert run(["evaluate", *arguments, f"--out={out}", "--resamples=50"]) == 0
    assert "data:image/jpeg" in (out / "report.html").read_text(encoding="utf-8")
    assert run(["evaluate", *arguments, f"--out={out}", f"--gallery={town}"]) == 5


def test_the_public_function_gives_the_same_figures() -> None:
    arrays = {
        "ids": ["q", "a", "b"],
        "role": ["query", "gallery", "gallery"],
        "lat_deg": [51.5, 51.5, 51.6],
        "lon_deg": [0.0, 0.0, 0.0],
        "embeddings": [[1.0, 0.1], [1.0, 0.0], [0.0, 1.0]],
    }
    assert swclip.evaluate_vectors(arrays).report.error_m == evaluate_vectors(arrays).report.error_m
