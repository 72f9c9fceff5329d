"""The document of a comparison as a typed record, and the golden document."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from fixtures.reports import leaves
from swclip.comparison.compare import compare
from swclip.comparison.document import Difference, read_document
from swclip.comparison.findings import statistical_summary
from swclip.errors import ArtefactError
from swclip.evaluation.measure import MeasureConfig
from swclip.evaluation.result import Evaluation
from swclip.files import write_json

GOLDEN = Path(__file__).with_name("golden_comparison.json")


def test_the_golden_document_is_rewritten_byte_by_byte(tmp_path: Path) -> None:
    # It is benchmark.json of the golden runs by an earlier release, in which documents were dictionaries; its
    # calibrations are by this one, in which the spread follows the candidates' spacing.
    write_json(tmp_path / "benchmark.json", read_document(GOLDEN).as_dict())
    assert (tmp_path / "benchmark.json").read_bytes() == GOLDEN.read_bytes()


def test_the_golden_runs_give_the_golden_document(made_up: Callable[..., Evaluation]) -> None:
    def run(system: int, spread_m: float) -> Evaluation:
        city, config = {"York": (53.96, -1.0873)}, MeasureConfig(resamples=20)
        return made_up(3, per_city=24, cities=city, system=system, spread_m=spread_m, config=config)

    runs = {"clip": {0: run(0, 90.0)}, "sw-clip": {0: run(10, 20.0), 1: run(11, 20.0)}}
    document = compare(runs, {"swclip": "0.1.0", "seeds": [0, 1]}, resamples=20).document
    values = {**document.as_dict(), "reading": statistical_summary(document)}
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    assert [key for key, _ in leaves(values)] == [key for key, _ in leaves(golden)]
    for (key, value), (_, old) in zip(leaves(values), leaves(golden), strict=True):
        assert type(value) is type(old), key
        assert value == (pytest.approx(old, rel=1e-9) if isinstance(old, float) else old), key


def test_systems_and_differences_are_in_order_of_the_median() -> None:
    document = read_document(GOLDEN)
    assert list(document.means) == ["sw-clip", "clip"]
    assert list(document.from_baseline) == ["sw-clip"]
    assert document.from_reference == {}


def test_a_negated_difference_swaps_the_ends() -> None:
    difference = Difference(value=-3.0, low=-5.0, high=-1.0, by_seed=[-2.0, -4.0])
    assert difference.negated() == Difference(value=3.0, low=1.0, high=5.0, by_seed=[2.0, 4.0])
    assert difference.negated().negated() == difference
    without = Difference(value=1.0, low=None, high=None)
    assert (without.negated().value, without.negated().interval, without.excludes_zero) == (-1.0, None, False)


def with_another_version(document: dict[str, Any]) -> None:
    document["version"] = "9"


def with_a_renamed_key(document: dict[str, Any]) -> None:
    document["systems"]["clip"]["mean"]["error_m"]["average"] = 1.0


def with_another_type(document: dict[str, Any]) -> None:
    document["winners"]["min_blocks"] = "many"


@pytest.mark.parametrize(
    ("corrupt", "message"),
    [
        (with_another_version, "a comparison of version 9, and this swclip reads 2"),
        (with_a_renamed_key, "systems.clip.mean.error_m.average"),
        (with_another_type, "winners.min_blocks"),
    ],
)
def test_invalid_documents_are_refused(corrupt: Callable[[dict[str, Any]], None], message: str, tmp_path: Path) -> None:
    document = deepcopy(json.loads(GOLDEN.read_text(encoding="utf-8")))
    corrupt(document)
    write_json(tmp_path / "benchmark.json", document)
    with pytest.raises(ArtefactError, match=message.replace(".", r"\.")):
        read_document(tmp_path / "benchmark.json")
