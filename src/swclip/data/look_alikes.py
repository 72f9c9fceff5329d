"""Far look-alikes: photographs that a model takes for one another although they were taken far apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Int64

from swclip.errors import ArtefactError
from swclip.geo.distance import pairwise_haversine_m

_ROWS_AT_ONCE = 1024
NOBODY = -1
"""Fills the row of a photograph that has fewer look-alikes than others."""


def far_look_alikes(
    asked: Float32[np.ndarray, "a d"],
    asked_deg: Float64[np.ndarray, "a 2"],
    pool: Float32[np.ndarray, "p d"],
    pool_deg: Float64[np.ndarray, "p 2"],
    apart_m: Float64[np.ndarray, " a"],
    count: int,
) -> tuple[Int64[np.ndarray, "a k"], Float32[np.ndarray, "a k"]]:
    """The most similar members of a pool among those farther away than a radius, most similar first.

        argmax^k_j { a_i . p_j : d(i, j) > apart_i }

    Of equals the first. In blocks, so that (A, P) never has to be held whole.

    Args:
        asked: (A, D) unit vectors.
        asked_deg: (A, 2) where they are, degrees.
        pool: (P, D) unit vectors of the same space.
        pool_deg: (P, 2) where those are.
        apart_m: (A,) metres; what is nearer is no look-alike but a neighbour.
        count: How many at most, k <= P.

    Returns:
        Numbers in the pool (A, k), `NOBODY` where there are no more, and their similarities, -inf there.

    Example:
        >>> import numpy as np
        >>> same = np.ones((3, 1), dtype=np.float32)
        >>> places = np.array([[0.0, 0.0], [0.0, 0.0001], [0.0, 0.01]])  # 11 m and 1.1 km along the equator
        >>> far_look_alikes(same, places, same, places, np.full(3, 100.0), 2)[0].tolist()
        [[2, -1], [2, -1], [0, 1]]
    """
    count = min(count, len(pool))
    which = np.full((len(asked), count), NOBODY, dtype=np.int64)
    similarity = np.full((len(asked), count), -np.inf, dtype=np.float32)
    for start in range(0, len(asked), _ROWS_AT_ONCE):
        part = slice(start, min(start + _ROWS_AT_ONCE, len(asked)))
        scores = asked[part] @ pool.T
        distance = pairwise_haversine_m(asked_deg[part], pool_deg)
        scores[distance <= apart_m[part, None]] = -np.inf
        best = np.argsort(-scores, axis=1, kind="stable")[:, :count]
        own = np.take_along_axis(scores, best, axis=1)
        which[part], similarity[part] = np.where(np.isfinite(own), best, NOBODY), own
    return which, similarity


@dataclass(frozen=True)
class Mined:
    """The look-alikes of some photographs, from one step on.

    Attributes:
        first_step: The first step whose batch draws from these.
        rows: (A,) photographs, by number, increasing.
        others: (A, K) their look-alikes, by number, most similar first; `NOBODY` where there are no more.
    """

    first_step: int
    rows: Int64[np.ndarray, " a"]
    others: Int64[np.ndarray, "a k"]

    def of(self, row: int) -> Int64[np.ndarray, " k"]:
        """Look-alikes of a photograph; none where it was not asked about."""
        at = int(np.searchsorted(self.rows, row))
        if at == len(self.rows) or self.rows[at] != row:
            return np.empty(0, dtype=np.int64)
        own: Int64[np.ndarray, " k"] = self.others[at][self.others[at] != NOBODY]
        return own


class LookAlikes:
    """What was mined lately, by the step from which it holds.

    A batch may be drawn while the step before it is still being trained. What is mined after a step therefore holds
    from the step after the next one on, and what held before is kept until then: a batch depends on its step alone,
    not on which thread was faster.

    Example:
        >>> import numpy as np
        >>> kept = LookAlikes()
        >>> kept.put(Mined(2, np.array([7]), np.array([[3, 5]])))
        >>> kept.at(1) is None, kept.at(2).of(7).tolist(), kept.at(9).of(8).tolist()
        (True, [3, 5], [])
    """

    def __init__(self) -> None:
        self._mined: tuple[Mined, ...] = ()

    def put(self, mined: Mined) -> None:
        """Add what was mined; only this and what held before it are kept."""
        self._mined = (*self._mined[-1:], mined)  # one assignment: another thread may be reading

    def at(self, step: int) -> Mined | None:
        """What holds at a step; None where nothing was mined in time."""
        return next((mined for mined in reversed(self._mined) if mined.first_step <= step), None)

    def state(self) -> dict[str, np.ndarray]:
        """As named arrays, for a checkpoint."""
        return {
            f"{number}.{name}": value
            for number, mined in enumerate(self._mined)
            for name, value in (
                ("first_step", np.array(mined.first_step)),
                ("rows", mined.rows),
                ("others", mined.others),
            )
        }

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Put back what `state` gave.

        Raises:
            ArtefactError: Arrays are missing.
        """
        try:
            self._mined = tuple(
                Mined(int(state[f"{number}.first_step"]), state[f"{number}.rows"], state[f"{number}.others"])
                for number in range(len(state) // 3)
            )
        except KeyError as error:
            raise ArtefactError(f"the checkpoint's look-alikes lack {error}; start the run again.") from error
