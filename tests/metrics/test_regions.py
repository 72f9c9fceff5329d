"""What a split deals as one: places where they are known, blocks where streets are new."""

from __future__ import annotations

import numpy as np
import pandas as pd

from swclip.metrics.districts import exchangeable_units, resampling_blocks

FRAME = pd.DataFrame({"place_id": ["a", "a", "b", "c"], "block_id": ["x", "x", "x", "y"]})
POSITIONS = np.array([[51.5, -0.1], [51.5, -0.1], [51.5000001, -0.1], [51.6, -0.1]])


def test_known_places_count_places_and_new_streets_blocks() -> None:
    assert exchangeable_units(FRAME, POSITIONS, "known-places") == ["a", "a", "b", "c"]
    for protocol in ("new-streets", "new-city", None):
        assert exchangeable_units(FRAME, POSITIONS, protocol) == resampling_blocks(FRAME, POSITIONS)[0]
    assert exchangeable_units(FRAME, POSITIONS, "new-streets") == ["x", "x", "x", "y"]


def test_places_without_a_name_are_told_apart_by_the_metre() -> None:
    for frame in (FRAME.drop(columns="place_id"), FRAME.assign(place_id=["a", None, "b", "c"])):
        one, two, three, four = exchangeable_units(frame, POSITIONS, "known-places")
        assert one == two == three != four
