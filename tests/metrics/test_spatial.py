"""The spatial part of a report: completeness, JSON, and data without spatial structure."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from swclip.errors import InputError
from swclip.metrics.lisa import LABELS
from swclip.metrics.morans_i import global_moran, nearest_neighbours, neighbour_graph
from swclip.metrics.spatial import Spatial, spatial_report


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def town(n: int = 120) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions, errors that are large in the north-east, and spatially smooth embeddings."""
    at = np.array([53.8, -1.55]) + generator(1).uniform(0, 8e-3, (n, 2))
    in_cluster = (at > at.mean(axis=0) + 1.5e-3).all(axis=1)
    error = generator(2).lognormal(np.where(in_cluster, 6.0, 2.5), 0.5)
    embeddings = np.hstack([(at - at.mean(axis=0)) * 500, generator(3).normal(size=(n, 6)) * 0.3])
    return at, error, embeddings


def plain(report: Spatial) -> Spatial:
    """The report after JSON; NaN and NumPy types are refused."""
    return Spatial.model_validate(json.loads(json.dumps(report.model_dump(), allow_nan=False)))


def test_a_complete_report() -> None:
    at, error, embeddings = town()
    result = spatial_report(at, error, embeddings, (at[::2], embeddings[::2].astype(np.float32)), seed=3)
    report = result.report
    assert report is not None
    assert plain(report) == report
    moran = report.errors_moran
    assert (moran.neighbours, moran.n, moran.permutations, moran.p) == (8, 120, 999, 0.002)
    assert moran.i > 0.4
    graph = neighbour_graph(nearest_neighbours(at, 8))
    alone = global_moran(np.log1p(error), graph, generator=generator(), permutations=9)
    assert alone is not None
    assert moran.i == alone.i
    assert list(report.lisa.counts) == list(LABELS)
    assert report.lisa.counts["high-high"] > 5
    assert [result.lisa.count(label) for label in LABELS] == list(report.lisa.counts.values())
    assert len(result.lisa_p) == 120
    assert all(0.0 < p <= 1.0 for p in result.lisa_p if p is not None)
    assert [entry.component for entry in report.components] == [1, 2, 3, 4, 5]
    assert report.components[0].i > 0.7
    for _, bands in report.correlogram:
        assert [band.low_m for band in bands] == [0, 10, 25, 50, 100, 200, 400, 800]
    assert all(test.r > 0.3 for _, test in report.mantel)
    assert all(smoothness.ratio < 0.6 for _, smoothness in report.smoothness)


def test_parts_do_not_depend_on_one_another() -> None:
    at, error, embeddings = town()
    whole = spatial_report(at, error, embeddings, (at, embeddings)).report
    errors, image, location = (
        spatial_report(at, error, *arguments).report for arguments in ((), (embeddings,), (None, (at, embeddings)))
    )
    assert whole is not None
    assert errors is not None
    assert image is not None
    assert location is not None
    for key in ("errors_moran", "lisa"):
        assert getattr(errors, key) == getattr(image, key) == getattr(location, key) == getattr(whole, key)
    assert {getattr(errors, key) for key in ("components", "correlogram", "mantel", "smoothness")} == {None}
    assert image.components == whole.components
    assert location.components is None
    for key in ("correlogram", "mantel", "smoothness"):
        both = getattr(whole, key)
        assert dict(getattr(image, key)) == {"image": both.image, "location": None}
        assert dict(getattr(location, key)) == {"image": None, "location": both.location}


def test_only_the_seed_matters() -> None:
    at, error, embeddings = town(60)
    np.random.seed(4)  # noqa: NPY002
    first = spatial_report(at, error, embeddings, seed=1)
    np.random.seed(5)  # noqa: NPY002
    assert spatial_report(at, error, embeddings, seed=1) == first
    assert spatial_report(at, error, embeddings, seed=2) != first


def no_report(n: int) -> tuple[None, list[None], list[None]]:
    return None, [None] * n, [None] * n


def test_fewer_than_eight_queries_have_no_report() -> None:
    at, error, embeddings = town(7)
    assert spatial_report(at, error, embeddings, (at, embeddings)) == no_report(7)
    assert spatial_report(*town(8)[:2]).report is not None


def test_all_at_one_position() -> None:
    _, error, embeddings = town(20)
    assert spatial_report(np.ones((20, 2)), error, embeddings) == no_report(20)
    at = town(20)[0]
    result = spatial_report(at, error, embeddings, (np.ones((20, 2)), embeddings)).report
    assert result is not None
    assert result.mantel.location is None


@pytest.mark.parametrize("n", [8, 9, 20])
def test_equal_errors_have_no_statistics(n: int) -> None:
    at, _, embeddings = town(n)
    report, labels, p = spatial_report(at, np.full(n, 12.5), embeddings)
    assert report is not None
    assert plain(report) == report
    assert (report.errors_moran, report.lisa) == (None, None)
    assert (labels, p) == ([None] * n, [None] * n)
    assert report.mantel.image is not None


@pytest.mark.parametrize("n", [8, 9, 10, 15])
def test_few_queries(n: int) -> None:
    """At most half of the others are neighbours, so that permutations differ."""
    at, error, embeddings = town(n)
    report, labels, _ = spatial_report(at, error, embeddings, (at, embeddings))
    assert report is not None
    assert plain(report) == report
    assert report.errors_moran.neighbours == (n - 1) // 2
    assert report.errors_moran.z is not None
    assert None not in labels


def test_several_queries_at_each_position() -> None:
    """Four queries at each position, embeddings of two kinds, and most errors 0."""
    at = np.repeat(town(30)[0], 4, axis=0)
    embeddings = np.tile([[1.0, 0.0], [0.0, 1.0]], (60, 1))
    error = np.where(np.arange(120) % 30 == 0, 300.0, 0.0)
    report, labels, p = spatial_report(at, error, embeddings, (at, np.ones((120, 3))))
    assert report is not None
    assert plain(report) == report
    assert None not in labels
    assert None not in p
    assert report.smoothness.location.ratio == pytest.approx(1.0)
    assert report.mantel.location is None
    assert len(report.components) == 1


def test_a_query_without_neighbours() -> None:
    at, error, _ = town(40)
    at[5] = [51.0, 0.0]
    report, labels, p = spatial_report(at, error, within_m=5_000)
    assert report is not None
    assert [row for row, label in enumerate(labels) if label is None] == [5]
    assert p[5] is None
    assert sum(report.lisa.counts.values()) == 39
    unlimited = spatial_report(at, error)
    assert None not in unlimited.lisa
    isolated = spatial_report(at, error, within_m=0.001).report
    assert isolated is not None
    assert (isolated.errors_moran, isolated.lisa) == (None, None)


def test_a_long_tail_does_not_hide_a_cluster() -> None:
    """One error of 500 km would dominate the variance without the logarithm."""
    at, error, _ = town()
    error[0] = 5e5
    report = spatial_report(at, error).report
    assert report is not None
    assert report.errors_moran.i > 0.15
    assert report.errors_moran.p == 0.002
    raw = global_moran(error, neighbour_graph(nearest_neighbours(at, 8)), generator=generator())
    assert raw is not None
    assert abs(raw.i) < 0.05
    assert raw.p > 0.05


@pytest.mark.parametrize(
    ("at", "error", "embeddings", "message"),
    [
        (np.ones((3, 2)), [1.0, 2.0], None, "3 positions of queries and 2 errors"),
        ([[0, 0], [0, 181]], [1.0, 2.0], None, r"query 1: position \[0.0, 181.0\]"),
        (np.zeros((2, 2)), [1.0, np.nan], None, "row 1: the error nan"),
        (town(9)[0], np.arange(9.0), np.ones((8, 3)), "9 positions and embeddings"),
        (town(9)[0], np.arange(9.0), np.zeros((9, 3)), "row 0: an embedding of length 0.0"),
    ],
)
def test_invalid_input_is_refused(at: object, error: object, embeddings: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        spatial_report(at, error, embeddings)  # type: ignore[arg-type]
    if embeddings is None:
        return
    with pytest.raises(InputError, match=r"candidate 0: position \[95.0, 0.0\]"):
        spatial_report(at, error, location=(np.full((9, 2), [95.0, 0.0]), embeddings))  # type: ignore[arg-type]


def test_pysal_and_matplotlib_are_imported_lazily() -> None:
    heavy = {"esda", "libpysal", "matplotlib", "sklearn"}
    code = f"import sys, swclip.evaluation.measure; print(sorted({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
