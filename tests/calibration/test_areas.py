"""Areas of candidates and of posteriors against loops."""

from __future__ import annotations

import h3
import numpy as np
import pytest

from swclip.calibration.areas import AREA_RESOLUTION, Areas, spacing_m
from swclip.errors import ConfigError
from swclip.geo.coordinates import LocalFrame


def test_a_candidate_without_a_city_has_the_area_of_its_cell() -> None:
    positions = np.array([[52.2, 0.12], [52.4, 0.26], [30.5, 114.4], [52.4001, 0.26]])
    areas = Areas.of(positions, ["Cambridge", None, None, None])
    cells = [h3.latlng_to_cell(*position, AREA_RESOLUTION) for position in positions]
    assert [areas.names[at] for at in areas.of_candidate] == ["Cambridge", *cells[1:]]
    assert list(areas.names) == sorted(areas.names)
    assert Areas.of(positions).names == tuple(sorted(set(cells)))
    with pytest.raises(ConfigError, match="1 cities for 4 candidates"):
        Areas.of(positions, ["Cambridge"])


def test_the_area_of_a_posterior_has_most_of_it() -> None:
    generator = np.random.default_rng(0)
    cities = [("Leeds", "York", "Hull")[at] for at in generator.integers(0, 3, 40)]
    areas = Areas.of(generator.uniform(53.0, 54.0, (40, 2)), cities)
    p = generator.random((200, 40)) ** 8
    for row, at in enumerate(areas.of_posteriors(p)):
        sums = {city: sum(m for m, c in zip(p[row], cities, strict=True) if c == city) for city in set(cities)}
        assert areas.names[at] == max(sums, key=lambda city: sums[city])
    one_by_one = [int(areas.of_posteriors(p[[row]])[0]) for row in range(200)]
    assert one_by_one == areas.of_posteriors(p).tolist()
    kept = np.flatnonzero(np.array(cities) != "Leeds")
    assert areas.take(kept).of_posteriors(p[:, kept]).tolist() == [
        int(np.argmax([-1.0 if n == "Leeds" else p[row, np.array(cities) == n].sum() for n in areas.names]))
        for row in range(200)
    ]
    equal = Areas.of([[53.8, -1.5], [53.9, -1.0]], ["York", "Leeds"]).of_posteriors(np.array([[0.5, 0.5]]))
    assert equal.tolist() == [0], "the first by name"


def test_the_spacing_is_the_distance_to_the_next_place_of_the_area() -> None:
    frame = LocalFrame(52.2, 0.12)
    sparse = frame.to_deg([[at * 122.0, 0.0] for at in range(5)])
    near = frame.to_deg([[at * 122.0 + 20.0, 0.0] for at in range(5)])
    positions = np.concatenate([sparse, sparse, near])
    areas = Areas.of(positions, ["Ely"] * 10 + ["Cambridge"] * 5)
    assert spacing_m(positions, areas, areas.names.index("Ely")) == pytest.approx(122.0, rel=5e-3)
    assert spacing_m(sparse[:1], Areas.of(sparse[:1]), 0) == np.inf
