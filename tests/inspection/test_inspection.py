"""An inspection names the faults of a manifest, and the splits that it can bear."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fixtures.inspections import DRIVES, PER_DRIVE, SUSPICIOUS
from swclip.cli.app import app
from swclip.data.manifest import Manifest, read_manifest
from swclip.data.protocols import split
from swclip.errors import ConfigError, InputError
from swclip.geo.coordinates import LocalFrame
from swclip.inspection.advice import advice_text, captures_text, pixels_text
from swclip.inspection.inspection import Inspection, InspectionReport, inspect_manifest
from swclip.inspection.trial_splits import recommended, trial_splits


def grid(across: int, spacing_m: float, **columns: object) -> Manifest:
    """Photographs on a square lattice."""
    north, east = np.divmod(np.arange(across * across), across)
    deg = LocalFrame(48.2, 16.4).to_deg(np.stack([east, north], axis=1) * spacing_m)
    texts = dict.fromkeys(("city", "place_id", "sequence_id", "licence", "source"))
    frame = pd.DataFrame({"image_id": [f"p{number:04d}" for number in range(len(deg))], **texts, **columns})
    frame = frame.assign(
        image_path=frame["image_id"] + ".jpg", lat_deg=deg[:, 0], lon_deg=deg[:, 1], heading_deg=np.nan,
        captured_at=pd.NaT,
    )  # fmt: skip
    return Manifest(Path("manifest.parquet"), frame if "accuracy_m" in frame else frame.assign(accuracy_m=np.nan))


def test_every_fault_is_listed_once_and_nothing_else(inspected: Inspection) -> None:
    listed = dict(zip(inspected.suspicious["image_id"], inspected.suspicious["reason"], strict=True))
    assert listed == SUSPICIOUS
    assert inspected.report.suspicious == {
        reason: list(SUSPICIOUS.values()).count(reason) for reason in inspected.report.suspicious
    }
    ids = inspected.manifest.frame["image_id"]
    assert ids.iloc[inspected.suspicious.index].tolist() == inspected.suspicious["image_id"].tolist()
    by_id = inspected.suspicious.set_index("image_id")
    assert by_id.loc["copy", "detail"].startswith("of d0-0,")
    assert by_id.loc["night", "value"] < by_id.loc["night", "threshold"] == 0.15
    assert by_id.loc["vague", ["value", "threshold"]].tolist() == [40.0, 25.0]
    assert {ids.iloc[row]: ids.iloc[earlier] for row, earlier in inspected.repeats.items()} == {
        "copy": "d0-0",
        "again": "d0-0",
    }


def test_figures(inspected: Inspection) -> None:
    report, count = inspected.report, DRIVES * PER_DRIVE
    assert report.photographs == count
    assert [(city.name, city.photographs) for city in report.cities] == [("Leeds", 48), ("York", 24)]
    assert report.dates.known == count
    assert report.dates.by_year == {"1980": 1, "2024": count - 1}
    assert report.headings.by_sector["E"] == report.headings.known == count
    assert report.licences.values == {"CC-BY-4.0": 48}
    assert report.licences.unknown == 24
    assert report.sequences.sequences == DRIVES
    assert report.sequences.photographs_without == 3
    assert report.sequences.step_m is not None
    assert report.sequences.step_m.median == pytest.approx(20.0, rel=0.01)
    assert report.sequences.speed_km_h is not None
    assert report.sequences.speed_km_h.median == pytest.approx(72.0, rel=0.01)
    assert report.spacing_m is not None
    assert report.spacing_m.median == pytest.approx(8.0, rel=0.01)
    assert report.accuracy_m is not None
    assert report.accuracy_m.max == 40.0
    assert report.pixels is not None
    assert (report.pixels.read, report.pixels.unreadable) == (count - 2, 2)
    assert report.pixels.sizes_px.values == {"160 x 120": count - 2}
    assert InspectionReport.model_validate_json(report.model_dump_json()) == report


def test_values_of_every_photograph(inspected: Inspection) -> None:
    table = inspected.photographs.set_index("image_id")
    assert len(table) == DRIVES * PER_DRIVE
    assert np.isnan(table.loc["cut", "blur"])
    assert table.loc["d0-1", "step_m"] == pytest.approx(20.0, rel=0.01)
    assert np.isnan(table.loc["d0-0", "step_m"])
    assert table.loc["far", "nearest_place_m"] > 40_000


def test_pixels_are_read_as_configured(odd_manifest: Path, tmp_path: Path) -> None:
    manifest = read_manifest(odd_manifest)
    none = inspect_manifest(manifest, pixels="none", cache=tmp_path)
    assert none.report.pixels is None
    assert none.report.suspicious["blurred"] == none.report.suspicious["unreadable"] == 0
    assert none.report.suspicious["jump"] == 1
    assert "unknown" in pixels_text(none.report)
    some = inspect_manifest(manifest, pixels=10, seed=3, cache=tmp_path)
    assert some.report.pixels is not None
    assert some.report.pixels.chosen == 10
    assert "10 of 72 chosen at random" in pixels_text(some.report)
    with pytest.raises(ConfigError, match="--pixels -1"):
        inspect_manifest(manifest, pixels=-1)


def test_an_empty_manifest_is_an_error() -> None:
    table = grid(1, 1.0)
    with pytest.raises(InputError, match="no photographs"):
        inspect_manifest(Manifest(table.path, table.frame.iloc[:0]))


def test_one_photograph_is_inspected_and_bears_no_split() -> None:
    result = inspect_manifest(grid(1, 1.0), pixels="none")
    assert {trial.verdict for trial in result.report.splits} == {"impossible"}
    assert result.recommended is None
    assert advice_text(result).startswith("No protocol is possible")
    assert result.report.spacing_m is None


def test_trials_are_the_splits_of_their_commands() -> None:
    manifest = grid(20, 20.0)
    for trial in trial_splits(manifest, "data"):
        command, bound, _ = app.parse_args(trial.command[1:], print_error=False, exit_on_error=False)
        options = {key: bound.arguments[key] for key in ("protocol", "block_m") if key in bound.arguments}
        draft = split(manifest, **options)
        assert command.__name__ == "split"
        assert (draft.frame["split"] == "query").sum() == trial.queries
        assert trial.query_blocks == draft.frame.loc[draft.frame["split"] == "query", "block_id"].nunique()


def test_known_places_come_first_where_nothing_speaks_against_them() -> None:
    best = recommended(trial_splits(grid(40, 20.0), "data"))
    assert best is not None
    assert (best.protocol, best.verdict) == ("known-places", "good")
    assert best.oracle_error_m is not None
    assert best.oracle_error_m.median == pytest.approx(20.0, rel=0.01)


def test_one_drive_is_no_test_of_known_places_and_coarse_positions_need_large_blocks() -> None:
    manifest = grid(60, 24.0, sequence_id="one", accuracy_m=20.0)
    trials = {(trial.protocol, trial.block_m): trial for trial in trial_splits(manifest, "data")}
    assert any("same drive" in reason for reason in trials["known-places", None].reasons)
    assert any("median accuracy" in reason for reason in trials["new-streets", 50.0].reasons)
    assert not any("median accuracy" in reason for reason in trials["new-streets", 100.0].reasons)
    assert any("blocks have queries" in reason for reason in trials["new-streets", 500.0].reasons)
    best = recommended(list(trials.values()))
    assert best is trials["new-streets", 100.0]


def test_places_with_several_captures_are_counted() -> None:
    manifest = grid(20, 30.0, place_id=[f"place-{number // 2}" for number in range(400)])
    manifest.frame["sequence_id"] = ["b" if number in (1, 3, 5) else "a" for number in range(400)]
    result = inspect_manifest(manifest, pixels="none")
    assert (result.report.places.places, result.report.places.with_several) == (200, 3)
    assert "3 of 200 have them" in captures_text(result.report)


def test_suspicious_photographs_are_left_out_of_a_new_manifest(inspected: Inspection, tmp_path: Path) -> None:
    clean = inspected.without(["unreadable", "dark"], tmp_path / "clean")
    left = set(inspected.manifest.frame["image_id"]) - set(clean.frame["image_id"])
    assert left == {name for name, reason in SUSPICIOUS.items() if reason in ("unreadable", "dark")}
    again = read_manifest(tmp_path / "clean")
    assert len(again) == 69
    assert all(path.is_file() for path in again.image_paths)
    with pytest.raises(ConfigError, match="'fog' is not a reason; choose one or several of unreadable, jump"):
        inspected.without(["fog"], tmp_path / "none")


def test_published_splits_come_first() -> None:
    manifest = grid(12, 15.0, published_split=["test/queries", "test/database"] * 72)
    trials = trial_splits(manifest, "data")
    best = recommended(trials)
    assert best is not None
    assert best is trials[0]
    assert (best.protocol, best.queries) == ("published", 72)
    assert best.command[-3:] == ["published", "--out", "data/splits.parquet"]
