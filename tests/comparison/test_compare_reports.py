"""Comparison of reports on disk: paired differences against loops, and invariances."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import swclip
from swclip.comparison.align import restricted
from swclip.comparison.compare import compare
from swclip.comparison.comparison import Comparison
from swclip.comparison.reports_on_disk import read_report
from swclip.errors import ArtefactError, ConfigError, MismatchError
from swclip.evaluation.measure import MeasureConfig
from swclip.evaluation.result import Evaluation
from swclip.metrics.bootstrap import resample_blocks

SYSTEMS = {"clip": {"spread_m": 90.0, "lost_share": 0.3}, "sw": {"spread_m": 20.0, "lost_share": 0.05}}


@pytest.fixture(scope="module")
def evaluations(made_up: Any) -> dict[str, dict[int, Evaluation]]:
    return {
        name: {seed: made_up(1, system=10 * at + seed, **options) for seed in (0, 1)}
        for at, (name, options) in enumerate(SYSTEMS.items())
    }


@pytest.fixture(scope="module")
def folder(evaluations: dict[str, dict[int, Evaluation]], saved: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """NAME/SEED report folders, each with its queries in another order."""
    root = tmp_path_factory.mktemp("reports")
    for name, of in evaluations.items():
        for seed, found in of.items():
            report = found.report.recorded(model=f"{name}-{seed}", run={"system": name, "seed": seed + 5})
            order = np.random.default_rng([seed, len(name)]).permutation(len(found.predictions))
            saved(Evaluation(report, found.predictions, found.candidates), root / name / str(seed), order)
    return root


@pytest.fixture(scope="module")
def compared(folder: Path) -> Comparison:
    found: Comparison = swclip.compare([f"clip={folder / 'clip'}", f"sw={folder / 'sw'}"], resamples=60)
    return found


def quantile(values: list[float], q: float) -> float:
    """Quantile with linear interpolation, written out."""
    values = sorted(values)
    at = q * (len(values) - 1)
    low = int(at)
    high = min(low + 1, len(values) - 1)
    return values[low] + (at - low) * (values[high] - values[low])


def test_differences_equal_loops(compared: Comparison, evaluations: dict[str, dict[int, Evaluation]]) -> None:
    frames = {
        name: [one.predictions.sort_values("image_id") for one in of.values()] for name, of in evaluations.items()
    }
    blocks = frames["clip"][0]["block"].tolist()
    resampled = resample_blocks(blocks, 60, np.random.default_rng(0))
    statistic = {
        "median": statistics.median,
        "mean": statistics.fmean,
        "within_50": lambda values: sum(value <= 50.0 for value in values) / len(values),
    }
    for key, of in statistic.items():

        def figure(system: str, rows: list[int], of: Any = of) -> float:
            runs = [frame["error_m"].tolist() for frame in frames[system]]
            return statistics.fmean(of([run[row] for row in rows]) for run in runs)

        drawn = [figure("sw", rows.tolist()) - figure("clip", rows.tolist()) for rows in resampled]
        everything = list(range(len(blocks)))
        found = compared.document.from_baseline["sw"].figures[key]
        assert found.value == pytest.approx(figure("sw", everything) - figure("clip", everything))
        assert found.low == pytest.approx(quantile(drawn, 0.025))
        assert found.high == pytest.approx(quantile(drawn, 0.975))


def test_a_figure_has_one_interval_on_every_page(made_up: Any, saved: Any, tmp_path: Path) -> None:
    config = MeasureConfig(resamples=60)
    one, other = (made_up(1, system=at, spread_m=spread_m, config=config) for at, spread_m in ((0, 20.0), (1, 90.0)))
    benchmark = compare({"one": {0: one}, "other": {0: other}}, {}, resamples=60).document
    order = np.random.default_rng(5).permutation(len(one.predictions))
    folders = {name: saved(found, tmp_path / name, order) for name, found in (("one", one), ("other", other))}
    reports = swclip.compare(folders, resamples=60).document
    for name, found in (("one", one), ("other", other)):
        expected = found.report.intervals.model_dump()
        for document in (benchmark, reports):
            intervals = document.systems[name].mean.intervals.model_dump()
            for key in ("error_m", "accuracy_within_m"):
                assert intervals[key] == {
                    figure: pytest.approx(ends, rel=1e-12) for figure, ends in expected[key].items()
                }
    assert benchmark.from_baseline["other"].median == reports.from_baseline["other"].median


def test_seeds_are_those_of_the_runs(compared: Comparison) -> None:
    for name in ("clip", "sw"):
        system = compared.document.systems[name]
        assert list(system.seeds) == ["5", "6"]
        assert system.mean.seeds == 2
        medians = [report.error_m.median for report in system.seeds.values()]
        assert system.mean.error_m.median == pytest.approx(statistics.mean(medians))
        assert system.mean.seed_sd.error_m["median"] == pytest.approx(statistics.stdev(medians))
    assert compared.document.notes == []
    values = compared.document.as_dict()
    assert json.loads(json.dumps(values, allow_nan=False)) == values


def test_comparison_does_not_depend_on_query_order(
    compared: Comparison, evaluations: dict[str, dict[int, Evaluation]]
) -> None:
    memory = swclip.compare({name: list(of.values()) for name, of in evaluations.items()}, resamples=60)
    for name in ("clip", "sw"):
        for key in ("error_m", "intervals", "accuracy_within_m"):
            one, other = (getattr(found.document.systems[name].mean, key) for found in (memory, compared))
            assert one == other
    assert memory.document.winners == compared.document.winners
    assert memory.document.pairs == compared.document.pairs
    assert memory.document.from_baseline == compared.document.from_baseline


def test_swapping_systems_flips_signs(folder: Path, compared: Comparison) -> None:
    turned = swclip.compare([f"sw={folder / 'sw'}", f"clip={folder / 'clip'}"], resamples=60)
    there, back = compared.document.from_baseline["sw"].figures, turned.document.from_baseline["clip"].figures
    for key, difference in there.items():
        assert back[key].value == pytest.approx(-difference.value)
        assert back[key].interval == pytest.approx(difference.negated().interval)
        assert back[key].by_seed == pytest.approx(difference.negated().by_seed)
    for name, winner in compared.document.winners.regions.items():
        other = turned.document.winners.regions[name]
        assert (winner.first, winner.second) == (other.first, other.second)
        assert other.difference["clip"].value == pytest.approx(-winner.difference["sw"].value)


def test_baseline_and_reference(folder: Path, made_up: Any) -> None:
    reports = {"clip": folder / "clip", "sw": folder / "sw", "far": made_up(1, system=70, spread_m=200.0)}
    found = swclip.compare(reports, baseline="sw", reference="far", resamples=20)
    assert (found.baseline, found.reference) == ("sw", "far")
    assert [(pair.system, pair.against) for pair in found.document.pairs] == [
        ("clip", "sw"),
        ("far", "sw"),
        ("clip", "far"),
    ]


def test_common_queries_equal_reports_of_these_queries(
    evaluations: dict[str, dict[int, Evaluation]],
) -> None:
    a, b = evaluations["clip"][0], evaluations["sw"][0]
    few = restricted(b, np.arange(4, 40))
    with pytest.raises(MismatchError, match=r"sw \(in memory\) lacks 9 of the 45 queries of clip"):
        swclip.compare({"clip": a, "sw": few}, resamples=20)
    found = swclip.compare({"clip": a, "sw": few}, common=True, resamples=20)
    alone = swclip.compare({"clip": restricted(a, np.arange(4, 40)), "sw": few}, resamples=20)
    assert found.document.systems == alone.document.systems
    assert found.document.made_with["left_out"] == {"clip": {"1": 9}, "sw": {"1": 0}}
    assert "left out: 9 of clip (in memory)" in found.document.notes[0]


def test_notes_on_differences_between_reports(evaluations: dict[str, dict[int, Evaluation]]) -> None:
    a, b = evaluations["clip"][0], evaluations["sw"][0]
    made = {"splits": {"path": "elsewhere", "protocol": "made-up"}, "manifest": {"digest": "cd34"}}
    other = Evaluation(
        b.report.model_copy(update={"version": "1", "gallery_size": 7, "made_with": made}), b.predictions, b.candidates
    )
    notes = swclip.compare({"a": a, "b": other}, resamples=10).document.notes
    assert [note.split(":")[0] for note in notes] == [
        "Other manifest than that of a (in memory)",
        f"The galleries differ (a (in memory) 135 candidates, oracle error {round(a.report.baselines.floor.median)} m"
        f"; b (in memory) 7 candidates, oracle error {round(a.report.baselines.floor.median)} m)",
        "Reports of an earlier version, which lack some of the further figures",
    ]


def test_invalid_comparisons_raise(folder: Path, evaluations: dict[str, dict[int, Evaluation]]) -> None:
    clip, sw = folder / "clip" / "0", folder / "sw" / "0"
    for reports, error, message in (
        ([clip], ConfigError, "needs at least two reports"),
        ([f"x={clip}"], ConfigError, "needs at least two reports"),
        ([], ConfigError, "needs at least two reports"),
        ([clip, folder / "nowhere"], ArtefactError, "nowhere: there is no such folder"),
        ({"a": clip, "b": []}, ConfigError, "system 'b' has no report"),
        (str(clip), ConfigError, "reports must be a list of folders"),
        ([clip, evaluations["sw"][0]], ConfigError, "an evaluation in memory has no name"),
        ({"x": [clip, clip], "y": sw}, MismatchError, "of the same model"),
    ):
        with pytest.raises(error, match=message):
            swclip.compare(reports)
    for key in ("baseline", "reference"):
        with pytest.raises(ConfigError, match=f"{key} 'z' is not among the systems; choose one of x, y"):
            swclip.compare([f"x={clip}", f"y={sw}"], **{key: "z"})


def test_seeds_of_one_system_can_be_compared(folder: Path) -> None:
    found = swclip.compare({"clip": folder / "clip"}, resamples=20)
    assert found.document.pairs == []
    assert found.document.moved_between_seeds["clip"] > 0.0
    assert found.differences.empty
    assert len(found.systems) == 1


def test_interrupted_report_raises(folder: Path, saved: Any, made_up: Any, tmp_path: Path) -> None:
    broken = saved(made_up(1), tmp_path / "broken")
    (broken / "report.json").unlink()
    with pytest.raises(ArtefactError, match="was interrupted"):
        swclip.compare([folder / "clip" / "0", broken])
    assert read_report(folder / "clip" / "0").report.n_queries == 45
