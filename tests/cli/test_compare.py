"""`swclip compare` with reports of `swclip evaluate`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from swclip.cli.app import run
from swclip.evaluation.result import answer_columns
from swclip.geo.distance import geodesic_m


@pytest.fixture(scope="module")
def reports(made: Path, town: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Report folders `run` and `other`, and `val` with other queries."""
    folder = tmp_path_factory.mktemp("reports")
    for name, flags in (("run", []), ("other", ["--estimator=geometric-median"]), ("val", ["--on=val"])):
        source = made / ("other" if name == "other" else "run")
        assert run(["evaluate", str(source), f"--out={folder / name}", "--no-photographs", "--no-figures", *flags]) == 0
    return folder


def test_output_files(
    reports: Path, town: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(town.parent)
    out = tmp_path / "out"
    command = ["compare", f"first={reports / 'run'}", f"second={reports / 'other'}", f"--out={out}", "--resamples=50"]
    command.append("--estimator=geometric-median")
    assert run(command) == 0
    captured = capsys.readouterr()
    assert captured.out.strip() == str(out / "compare.json")
    assert "first" in captured.err
    assert "second" in captured.err
    names = {"compare.json", "compare.html", "moved.csv", "curves.png", "curves.svg"}
    assert {path.name for path in out.iterdir()} == names
    document = json.loads((out / "compare.json").read_text())
    assert (document["version"], document["estimator"]) == ("2", "geometric-median")
    assert document["made_with"]["reports"]["first"] == {"0": f"{reports.name}/run"}
    assert document["made_with"]["splits"]["protocol"] is not None
    assert document["reading"][0].startswith("second ")
    for system, name in (("first", "run"), ("second", "other")):
        report = json.loads((reports / name / "report.json").read_text())
        assert document["systems"][system]["mean"]["error_m"] == report["estimators"]["geometric-median"]["error_m"]
    moved = pd.read_csv(out / "moved.csv")
    predictions = pd.read_parquet(reports / "run" / "predictions.parquet").set_index("image_id")
    assert set(moved["image_id"]) == set(predictions.index)
    predictions = predictions.loc[moved["image_id"]]
    answers = predictions[list(answer_columns("geometric-median"))].to_numpy()
    errors = geodesic_m(predictions[["lat_deg", "lon_deg"]].to_numpy(), answers).tolist()
    assert moved["first_error_m"].tolist() == pytest.approx(errors, rel=1e-9)
    page = (out / "compare.html").read_text()
    assert "data:image/jpeg" in page, "the manifest is found below the working folder"
    assert "Grey dots are candidates" in page, "the splits are found below the working folder"
    assert "whose report is by mode" in page


def test_reports_of_one_name_are_seeds(reports: Path, tmp_path: Path) -> None:
    flags = [f"--out={tmp_path}", "--no-photographs", "--resamples=20"]
    assert run(["compare", f"both={reports / 'run'}", f"both={reports / 'other'}", *flags]) == 0
    document = json.loads((tmp_path / "compare.json").read_text())
    assert list(document["systems"]["both"]["seeds"]) == ["0", "1"]
    assert document["systems"]["both"]["mean"]["seed_sd"] is not None
    page = (tmp_path / "compare.html").read_text()
    assert "data:image/jpeg" not in page
    assert "Seeds of both" in page


@pytest.fixture
def moved_reports(reports: Path, tmp_path: Path) -> Path:
    """The two reports, with recorded paths that do not exist."""
    for name in ("run", "other"):
        shutil.copytree(reports / name, tmp_path / name)
        path = tmp_path / name / "report.json"
        report = json.loads(path.read_text())
        for key in ("manifest", "splits"):
            report["made_with"][key]["path"] = str(tmp_path / "gone" / key)
        path.write_text(json.dumps(report))
    return tmp_path


def test_missing_manifest_and_splits_are_noted_and_can_be_named(
    moved_reports: Path, town: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = moved_reports / "out"
    command = ["compare", str(moved_reports / "run"), str(moved_reports / "other"), f"--out={out}", "--resamples=20"]
    command.append("--estimator=geometric-median")
    assert run(command) == 0
    notes = " ".join(capsys.readouterr().err.split())
    assert "give its path with --manifest" in notes
    assert "give its path with --splits" in notes
    page = (out / "compare.html").read_text()
    assert "data:image/jpeg" not in page
    assert "Grey dots" not in page
    assert run([*command, f"--manifest={town}", f"--splits={town / 'splits.parquet'}"]) == 0
    assert "give its path" not in capsys.readouterr().err
    page = (out / "compare.html").read_text()
    assert "data:image/jpeg" in page
    assert "Grey dots" in page


def test_other_manifest_or_splits_than_those_of_the_reports_are_refused(
    reports: Path, town_copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["compare", str(reports / "run"), str(reports / "other"), f"--out={tmp_path / 'out'}", "--resamples=20"]
    table = pd.read_parquet(town_copy / "manifest.parquet")
    from swclip.data.manifest import read_manifest, write_manifest

    frame = read_manifest(town_copy).frame
    frame.loc[0, "lat_deg"] += 0.001
    write_manifest(town_copy / "manifest.parquet", frame)
    assert len(table) == len(frame)
    assert run([*command, f"--manifest={town_copy}"]) == 4
    assert "not the manifest of the reports" in capsys.readouterr().err
    splits = tmp_path / "s.parquet"
    flags = ["--protocol=known-places", f"--out={splits}", "--no-picture-hash"]
    assert run(["split", str(town_copy), *flags]) == 0
    capsys.readouterr()
    assert run([*command, f"--splits={splits}"]) == 4
    assert "not the splits of the reports" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


# RUN, OTHER and VAL are reports; OUT does not exist.
WRONG = [
    ("RUN", 5, "needs at least two reports"),
    ("RUN nowhere", 3, "nowhere: there is no such folder"),
    ("RUN VAL", 4, "lacks 10 of the 10 queries of"),
    ("RUN VAL --common", 4, "no query is in all of the reports"),
    ("RUN OTHER --baseline clip", 5, "baseline 'clip' is not among the systems; choose one of run, other"),
    ("RUN OTHER --reference clip", 5, "reference 'clip' is not among the systems"),
    ("RUN OTHER --baseline run --reference run", 5, "baseline and reference are both 'run'"),
    ("RUN OTHER --manifest nowhere", 3, "nowhere"),
    ("RUN OTHER --splits nowhere", 3, "nowhere: the splits do not exist"),
    ("RUN MADE", 3, "there is no report.json"),
    ("RUN MADE/run", 3, "this is a run, not a report"),
    ("RUN OTHER --resamples 0", 5, "an interval needs at least one resample"),
    ("RUN RUN", 5, "this report is given twice"),
]


@pytest.mark.parametrize(("arguments", "code", "message"), WRONG)
def test_invalid_arguments_are_refused(
    reports: Path,
    made: Path,
    tmp_path: Path,
    arguments: str,
    code: int,
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    for word, path in (
        ("RUN", reports / "run"),
        ("OTHER", reports / "other"),
        ("VAL", reports / "val"),
        ("MADE", made),
    ):
        arguments = arguments.replace(word, str(path))
    assert run(["compare", *arguments.split(), "--out=out"]) == code
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert list(tmp_path.iterdir()) == []
