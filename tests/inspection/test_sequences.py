"""Speeds and jumps along sequences."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from swclip.data.manifest import Manifest
from swclip.geo.coordinates import LocalFrame
from swclip.inspection.sequences import sequence_steps

LOCAL = LocalFrame(51.5, -0.1)


def drive(
    east_m: list[float], *, seconds: list[float] | None = None, name: str | None = "a", accuracy_m: float = 5.0
) -> pd.DataFrame:
    """Photographs on a line, one per second where no times are given."""
    times = np.arange(len(east_m), dtype=float) if seconds is None else np.array(seconds)
    deg = LOCAL.to_deg(np.stack([np.array(east_m), np.zeros(len(east_m))], axis=1))
    return pd.DataFrame(
        {
            "image_id": [f"{name}{number}" for number in range(len(east_m))],
            "lat_deg": deg[:, 0],
            "lon_deg": deg[:, 1],
            "accuracy_m": accuracy_m,
            "heading_deg": 90.0,
            "captured_at": pd.Timestamp("2024-05-01") + pd.to_timedelta(times, unit="s"),
            "sequence_id": name,
        }
    )


def manifest(*parts: pd.DataFrame) -> Manifest:
    return Manifest(Path("manifest.parquet"), pd.concat(parts, ignore_index=True))


def jumps(*parts: pd.DataFrame) -> list[str]:
    table = manifest(*parts)
    return table.frame["image_id"][sequence_steps(table).jump].tolist()


def test_steps_and_speeds_follow_the_times() -> None:
    table = manifest(drive([0.0, 30.0, 10.0], seconds=[0.0, 2.0, 1.0]), drive([500.0], name=None))
    steps = sequence_steps(table)
    assert steps.start.tolist() == [0, 2]
    assert steps.stop.tolist() == [2, 1]
    assert steps.step_m == pytest.approx([10.0, 20.0], rel=1e-3)
    assert steps.speed_m_s == pytest.approx([10.0, 20.0], rel=1e-3)
    assert (steps.n_sequences, steps.n_without, steps.standing) == (1, 1, 0)


def test_a_spike_is_the_photograph_at_fault_and_not_its_neighbours() -> None:
    assert jumps(drive([0, 10, 20, 900, 40, 50])) == ["a3"]


def test_both_ends_of_a_step_are_named_where_either_may_be_wrong() -> None:
    table = manifest(drive([0, 10, 20, 900, 910, 920]))
    steps = sequence_steps(table)
    assert np.flatnonzero(steps.jump).tolist() == [2, 3]
    assert "880 m in 1.0 s" in steps.detail[2]


def test_a_step_that_the_accuracy_explains_is_no_jump() -> None:
    assert jumps(drive([0, 10, 110, 120], accuracy_m=5.0)) == ["a1", "a2"]
    assert jumps(drive([0, 10, 110, 120], accuracy_m=20.0)) == []


def test_a_pause_is_no_jump() -> None:
    assert jumps(drive([0, 10, 5_000, 5_010], seconds=[0, 1, 400, 401])) == []


def test_photographs_of_the_same_second_are_no_jump() -> None:
    assert jumps(drive([0, 10, 20], seconds=[0, 0, 0])) == []


def test_without_times_long_steps_and_spikes_are_jumps() -> None:
    untimed = drive([0, 10, 20, 350, 40, 50, 60, 70, 900, 910])
    untimed["captured_at"] = pd.NaT
    assert jumps(untimed) == ["a3", "a7", "a8"]


def test_sequences_are_apart_and_a_missing_time_counts_for_its_sequence_alone() -> None:
    one, other = drive([0, 10, 20]), drive([9_000, 9_010, 9_900, 9_030], name="b")
    one.loc[1, "captured_at"] = pd.NaT
    assert jumps(one, other) == ["b2"]


def test_standing_photographs_are_counted_unless_the_camera_turned() -> None:
    table = manifest(drive([0, 0, 0, 10]))
    table.frame.loc[2, "heading_deg"] = 180.0
    assert sequence_steps(table).standing == 1


def test_no_sequences() -> None:
    steps = sequence_steps(manifest(drive([0, 10], name=None)))
    assert (len(steps.step_m), steps.n_sequences, steps.jump.any()) == (0, 0, False)
