"""Evaluations of other tools: comparison with and without a gallery, and folders of the VPR layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pyproj import Transformer

import swclip
from swclip.cli.app import run
from swclip.comparison.page import write_comparison_page
from swclip.data.manifest import Manifest, read_manifest
from swclip.data.splits import Splits, read_splits
from swclip.evaluation.measure import MeasureConfig
from swclip.external.evaluate import evaluate_vectors
from swclip.external.measure_embeddings import photographs_by_candidate
from swclip.geo.coordinates import LocalFrame

QUICK = MeasureConfig(resamples=20)


def test_evaluations_with_and_without_a_gallery_are_compared(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    frame = LocalFrame(53.8, -1.55)
    truth_m = generator.uniform(-300.0, 300.0, (40, 2))
    truth = frame.to_deg(truth_m)
    ids = [f"q{row}" for row in range(40)]

    def predictions(off_m: float) -> pd.DataFrame:
        predicted = frame.to_deg(truth_m + generator.normal(scale=off_m, size=truth_m.shape))
        columns = {"lat": truth[:, 0], "lon": truth[:, 1], "pred_lat": predicted[:, 0], "pred_lon": predicted[:, 1]}
        return pd.DataFrame({"image_id": ids, **columns})

    gallery = pd.DataFrame({"lat": truth[:, 0], "lon": truth[:, 1]})
    gallery_file = tmp_path / "gallery.csv"
    gallery.to_csv(gallery_file, index=False)
    near = swclip.evaluate_predictions(predictions(10.0), config=QUICK)
    far = swclip.evaluate_predictions(predictions(200.0), gallery=gallery_file, config=QUICK)
    for reports in ({"near": near, "far": far}, {"near": near, "again": swclip.evaluate_predictions(predictions(9.0))}):
        comparison = swclip.compare(reports, resamples=20)
        assert comparison.document.systems["near"].mean.error_m == near.report.error_m
        assert (comparison.document.curves.floor is None) == ("far" not in reports)
        page = tmp_path / "page.html"
        write_comparison_page(page, comparison, title="both")
        assert "NaN" not in page.read_text(encoding="utf-8").split('id="data">')[1].split("</script>")[0]


QUICK = MeasureConfig(resamples=20)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Manifest, Splits]:
    """train, val and test in Sydney, 3 km apart; red increases to the north, so colour gives position."""
    folder = tmp_path_factory.mktemp("vpr")
    to_utm = Transformer.from_crs(4326, 32756, always_xy=True)
    generator = np.random.default_rng(0)
    for at, part in enumerate(("train", "val", "test")):
        for kind, shift in (("database", 0.0), ("queries", 2e-5)):
            for number in range(10):
                lat = -33.8568 + 0.03 * at + 2e-4 * number + shift
                east, north = to_utm.transform(151.2153, lat)
                path = folder / "set" / part / kind / f"@{east:010.2f}@{north:010.2f}@56@H@@@{part}{number}@@@@@@@@.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                pixels = np.array([20 + 22 * number, 120, 60]) + generator.normal(0, 3, (32, 32, 3))
                Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path, quality=95)
    assert run(["prepare", str(folder / "set"), "--layout=vpr", "--city=Sydney", f"--out={folder / 'data'}"]) == 0
    return read_manifest(folder / "data"), read_splits(folder / "data")


def test_vectors_of_vpr_folders_are_searched_in_their_database(prepared: tuple[Manifest, Splits]) -> None:
    manifest, splits = prepared
    red = np.array([np.asarray(Image.open(path), dtype=np.float64).mean(axis=(0, 1)) for path in manifest.image_paths])
    arrays = {"paths": np.array([path.name for path in manifest.image_paths]), "features": red}
    report = evaluate_vectors(arrays, similarity="l2", manifest=manifest, splits=splits, config=QUICK).report
    assert (report.n_queries, report.gallery_size, report.gallery_photographs) == (10, 10, 10)
    assert report.posterior["fitted_on"] == "10 validation queries"
    assert report.error_m.median < 3.0
    assert report.recall_at_k_25m["1"] == 1.0
    assert report.baselines.floor.median == pytest.approx(2.2, abs=0.1)


def test_vpr_file_names_give_positions_without_a_manifest(prepared: tuple[Manifest, Splits]) -> None:
    manifest, _ = prepared
    test = manifest.frame["published_split"].str.startswith("test").to_numpy()
    paths = [path for path, selected in zip(manifest.image_paths, test, strict=True) if selected]
    red = np.array([np.asarray(Image.open(path), dtype=np.float64).mean(axis=(0, 1)) for path in paths])
    arrays = {
        "paths": np.array([str(path) for path in paths]),
        "features": red,
        "role": manifest.frame["published_split"].str.split("/").str[1].to_numpy(dtype=str)[test],
    }
    report = evaluate_vectors(arrays, similarity="l2", config=QUICK).report
    assert (report.n_queries, report.gallery_size) == (10, 10)
    assert report.error_m.median < 3.0


def test_training_photographs_are_not_in_the_gallery_of_test(prepared: tuple[Manifest, Splits]) -> None:
    manifest, splits = prepared
    _, ids = photographs_by_candidate(manifest, splits, "query")
    folder = manifest.frame.set_index("image_id")["published_split"]
    assert {folder[name] for names in ids for name in names} == {"test/database"}


@pytest.mark.slow
def test_a_run_is_trained_and_evaluated_on_vpr_folders(prepared: tuple[Manifest, Splits], tmp_path: Path) -> None:
    manifest, splits = prepared
    arguments = ["--recipe=clip", "--text-tower=none", "--size-px=32", "--batch-size=8", "--steps=2"]
    small = ["--set=model.embedding_dim=8", "--set=model.image.head_width=16", "--set=model.location.hidden_width=16"]
    made = [str(manifest.path.parent), f"--splits={splits.path}", f"--out={tmp_path / 'run'}"]
    assert run(["train", *made, *arguments, *small, "--set=model.location.grid_log2_size=6"]) == 0
    assert run(["evaluate", str(tmp_path / "run"), f"--out={tmp_path / 'out'}", "--resamples=20"]) == 0
    assert (tmp_path / "out" / "report.html").is_file()
