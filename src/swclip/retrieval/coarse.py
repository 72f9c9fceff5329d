"""Coarse-to-fine search: only the cells that can hold a good candidate are opened, and it is said what that leaves out.

Every cell of a gallery is summarised by a cap on the unit sphere of the embeddings: a centre and the angle within which
all its members lie. For a unit query at angle phi from the centre, no member's inner product exceeds

    b = 1                    phi <= theta
    b = cos(phi - theta)     otherwise

by the triangle inequality for angles. That is the least upper bound for a cap, and no worse than the bound of a ball
round the members' mean, q m + r, since what a ball cuts out of the sphere is a cap. Cells are opened in the order of b:
once the next bound is below the k-th best candidate, the rest need not be looked at (branch and bound, exact). A beam
opens a fixed number of cells instead, and the same bounds then say how much the others can hold at most.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64
from scipy.special import expit

from swclip.calibration.posterior_config import PosteriorConfig
from swclip.errors import ConfigError
from swclip.gallery.gallery import Gallery
from swclip.geo.cells import nested_cell_ids
from swclip.retrieval.scores import check_queries, hubness_of

MEMBERS = 32
"""Cells are as fine as leaves them this many candidates on average: finer ones cost more to bound than they save."""

_FINEST, _COARSEST = 12, 2
_ROWS_AT_ONCE = 65_536


@dataclass(frozen=True, eq=False)
class Caps:
    """Embeddings grouped by cell, and the cap that each group lies in.

    Attributes:
        order: (N,) rows of the embeddings, ordered by cell.
        starts: (C + 1,) where each cell's rows begin in `order`; a cell may be empty.
        centre: (C, D) unit vectors.
        cosine: (C,) cosine of the cap's angle, rounded down so that rounding cannot put a member outside.
        least_hubness: (C,) the least hubness of a member; 0 where none was measured.
    """

    order: Int64[np.ndarray, " n"]
    starts: Int64[np.ndarray, " c1"]
    centre: Float32[np.ndarray, "c d"]
    cosine: Float64[np.ndarray, " c"]
    least_hubness: Float64[np.ndarray, " c"]

    @classmethod
    def of(
        cls,
        embeddings: Float32[np.ndarray, "n d"],
        cell_of: Int64[np.ndarray, " n"],
        cells: int,
        hubness: Float32[np.ndarray, " n"] | None = None,
    ) -> Caps:
        """Group unit vectors by cell and find the caps."""
        order = np.argsort(cell_of, kind="stable")
        count = np.bincount(cell_of, minlength=cells)
        starts = np.concatenate([[0], np.cumsum(count)])
        centre, cosine = np.zeros((cells, embeddings.shape[1]), dtype=np.float32), np.ones(cells)
        step = max(1, int(_ROWS_AT_ONCE * cells / max(1, len(order))))
        for first in range(0, cells, step):
            own = slice(first, min(first + step, cells))
            filled = first + np.flatnonzero(count[own])
            if len(filled) == 0:
                continue
            members = embeddings[order[starts[first] : starts[own.stop]]].astype(np.float64)
            at = starts[filled] - starts[first]
            mean = np.add.reduceat(members, at, axis=0)
            length = np.linalg.norm(mean, axis=1, keepdims=True)
            # Members that cancel out have no middle; any direction will do, and the first of them is one.
            centre[filled] = np.where(length > 1e-6, mean / np.maximum(length, 1e-6), members[at])
            inner = np.einsum("nd,nd->n", members, np.repeat(centre[filled].astype(np.float64), count[filled], axis=0))
            cosine[filled] = np.minimum.reduceat(inner, at)
        least = np.zeros(cells)
        if hubness is not None:
            least[count > 0] = np.minimum.reduceat(hubness[order].astype(np.float64), starts[:-1][count > 0])
        return cls(order, starts, centre, np.clip(cosine - 4.0 * np.finfo(np.float32).eps, -1.0, 1.0), least)

    @property
    def count(self) -> Int64[np.ndarray, " c"]:
        """(C,) members of each cell."""
        return np.diff(self.starts)

    def rows(self, cells: Int64[np.ndarray, " o"]) -> Int64[np.ndarray, " s"]:
        """The rows of some cells, cell by cell."""
        parts = [self.order[self.starts[cell] : self.starts[cell + 1]] for cell in cells]
        return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)

    def bound(self, query: Float32[np.ndarray, " d"]) -> Float64[np.ndarray, " c"]:
        """(C,) what no inner product of the query with a member exceeds; -inf for an empty cell."""
        # Float32 products are off by their rounding, and near the far pole the angle magnifies it. The bound grows with
        # the inner product: taken for one that is too large by what rounding can do, it still bounds.
        slack = 2.0 * len(query) * float(np.finfo(np.float32).eps)
        inner = np.clip((self.centre @ query).astype(np.float64) + slack, -1.0, 1.0)
        outside = inner * self.cosine + np.sqrt((1.0 - inner**2) * (1.0 - self.cosine**2))
        return np.where(self.count > 0, np.where(inner >= self.cosine, 1.0, outside) + slack, -np.inf)


@dataclass(frozen=True)
class Opened:
    """The part of a gallery that was looked at for one query.

    Attributes:
        rows: (S,) candidates that were scored, in increasing order.
        cells: Cells opened.
        scored_share: S over all candidates.
        proven: No other candidate's location is more similar than the k-th best of these, and where photographs count
            none of the others' photographs is more similar than the k-th best photograph of these.
        left_out_at_most: Most that all others together can hold of the posterior, before smoothing on the ground.
    """

    rows: Int64[np.ndarray, " s"]
    cells: int
    scored_share: float
    proven: bool
    left_out_at_most: float


@dataclass(frozen=True, eq=False)
class CoarseIndex:
    """A gallery grouped by cells, for searches that do not look at all of it.

    Attributes:
        gallery: The gallery.
        resolution: H3 resolution of the cells.
        locations: Caps of the location embeddings.
        photographs: Caps of the image embeddings, by the cell of their candidate; None where there are none.

    Example:
        ```python
        index = CoarseIndex.of(gallery)
        opened = index.search(query, posterior, beam=64)
        answers = part_of(gallery, opened.rows)  # a gallery of its own: every estimator works on it
        ```
    """

    gallery: Gallery
    resolution: int
    locations: Caps
    photographs: Caps | None

    @classmethod
    def of(cls, gallery: Gallery, resolution: int | None = None) -> CoarseIndex:
        """Group a gallery.

        Args:
            gallery: The gallery; its embeddings are unit vectors.
            resolution: H3 resolution of the cells; None for the finest that leaves `MEMBERS` candidates a cell.

        Raises:
            ConfigError: The resolution is not 0 to 15.
        """
        wanted = range(_FINEST, _COARSEST - 1, -1) if resolution is None else [resolution]
        nested = nested_cell_ids(gallery.positions_deg, wanted)
        chosen = next((r for r in wanted if len(set(nested[r])) * MEMBERS <= len(gallery)), wanted[-1])
        names, cell_of = np.unique(np.asarray(nested[chosen]), return_inverse=True)
        photographs = None
        if gallery.image_ids:
            photographs = Caps.of(
                gallery.image_embeddings,
                cell_of[gallery.image_rows],
                len(names),
                None if gallery.hubness is None else gallery.hubness.photographs,
            )
        hubness = None if gallery.hubness is None else gallery.hubness.locations
        return cls(gallery, chosen, Caps.of(gallery.location_embeddings, cell_of, len(names), hubness), photographs)

    def __len__(self) -> int:
        return len(self.locations.cosine)

    def search(
        self, query: Float32[np.ndarray, " d"], config: PosteriorConfig, *, beam: int | None = None, top_k: int = 1
    ) -> Opened:
        """Open the cells that matter for a query.

        Args:
            query: (D,) unit vector.
            config: Temperatures, and whether photographs count.
            beam: Cells to open, for the locations and, where they count, as many for the photographs; None opens cells
                until the best `top_k` are proven.
            top_k: How many candidates must be the best there are.

        Raises:
            ConfigError: The beam or top_k is below 1.
            MismatchError: The query has another dimension than the gallery.
        """
        if top_k < 1 or (beam is not None and beam < 1):
            raise ConfigError(f"beam is {beam} and top_k {top_k}; both must be 1 or more.")
        own = check_queries(query[None], self.gallery)[0]
        gallery = self.gallery
        sides = [_Side(self.locations, gallery.location_embeddings, config.location_temperature, 1.0, 1)]
        if config.location_hubness:
            sides[0] = replace(sides[0], beta=config.location_hubness, hubness=hubness_of(gallery).locations)
        if config.image_weight > 0.0 and self.photographs is not None:
            # The posterior takes each candidate's best photograph only: the sum over all may be so many times as large.
            most = int(np.bincount(gallery.image_rows).max())
            images = gallery.image_embeddings
            sides.append(_Side(self.photographs, images, config.image_temperature, config.image_weight, most))
            if config.image_hubness:
                sides[1] = replace(sides[1], beta=config.image_hubness, hubness=hubness_of(gallery).photographs)
        bounds = [side.bound(own) for side in sides]
        opened = np.zeros(len(self), dtype=bool)
        first: list[tuple[Int64[np.ndarray, " o"], Float32[np.ndarray, " s"]]] = []
        for side, bound in zip(sides, bounds, strict=True):
            first.append(_best_first(side, own, bound, beam, top_k))
            opened[first[-1][0]] = True
        proven, left_out = True, 0.0
        for side, bound, (cells, scores) in zip(sides, bounds, first, strict=True):
            # What the other evidence opened is scored by this one too.
            others = opened.copy()
            others[cells] = False
            scores = np.concatenate([scores, side.scores(np.flatnonzero(others), own)])
            kth, held = _summary(scores, side.temperature, top_k)
            proven &= bool((bound[~opened] <= kth).all())
            left_out += side.weight * _share_outside(side, bound, opened, held - np.log(side.most))
        rows = np.sort(self.locations.rows(np.flatnonzero(opened)))
        return Opened(rows, int(opened.sum()), len(rows) / len(gallery), proven, min(1.0, left_out))


def part_of(gallery: Gallery, rows: Int64[np.ndarray, " s"]) -> Gallery:
    """A gallery of some of the candidates, with their photographs, in the order they have.

    Args:
        gallery: The whole.
        rows: Candidates, in increasing order.
    """
    new = np.full(len(gallery), -1, dtype=np.int64)
    new[rows] = np.arange(len(rows))
    kept = np.flatnonzero(new[gallery.image_rows] >= 0)
    return Gallery(
        candidate_ids=[gallery.candidate_ids[row] for row in rows],
        positions_deg=gallery.positions_deg[rows],
        cities=[gallery.cities[row] for row in rows],
        location_embeddings=gallery.location_embeddings[rows],
        image_embeddings=gallery.image_embeddings[kept],
        image_rows=new[gallery.image_rows[kept]],
        image_ids=[gallery.image_ids[at] for at in kept],
        meta=gallery.meta,
        hubness=None if gallery.hubness is None else gallery.hubness.take(rows, kept),
    )


@dataclass(frozen=True)
class _Side:
    """One kind of evidence in a search: locations, or photographs.

    Attributes:
        caps: Its embeddings by cell.
        embeddings: (N, D).
        temperature: Of its logits.
        weight: Its share of the posterior.
        most: Members that one candidate may have.
        beta: How much of the hubness is taken off a score.
        hubness: (N,) the members' hubness; None where none is taken off.
    """

    caps: Caps
    embeddings: Float32[np.ndarray, "n d"]
    temperature: float
    weight: float
    most: int
    beta: float = 0.0
    hubness: Float32[np.ndarray, " n"] | None = None

    def bound(self, query: Float32[np.ndarray, " d"]) -> Float64[np.ndarray, " c"]:
        """(C,) what no score of a member exceeds: the cap's bound less the least that is taken off in the cell."""
        return self.caps.bound(query) - self.beta * self.caps.least_hubness

    def scores(self, cells: Int64[np.ndarray, " o"], query: Float32[np.ndarray, " d"]) -> Float32[np.ndarray, " s"]:
        """Scores of the members of some cells, cell by cell."""
        rows = self.caps.rows(cells)
        scores: Float32[np.ndarray, " s"] = self.embeddings[rows] @ query
        if self.hubness is not None:
            scores = scores - np.float32(self.beta) * self.hubness[rows]
        return scores


def _best_first(
    side: _Side,
    query: Float32[np.ndarray, " d"],
    bound: Float64[np.ndarray, " c"],
    beam: int | None,
    top_k: int,
) -> tuple[Int64[np.ndarray, " o"], Float32[np.ndarray, " s"]]:
    """The cells to open, and their members' scores: as many as the beam says, or until no other can hold a better."""
    order = np.argsort(-bound, kind="stable")[: np.count_nonzero(side.caps.count)]
    if beam is not None:
        return order[:beam], side.scores(order[:beam], query)
    parts, best = [np.zeros(0, dtype=np.float32)], np.zeros(0, dtype=np.float32)
    done, step = 0, 4
    while done < len(order) and (len(best) < top_k or bound[order[done]] > best.min()):
        parts.append(side.scores(order[done : done + step], query))
        best = np.sort(np.concatenate([best, parts[-1]]))[-top_k:]
        done += step
        step *= 2
    return order[:done], np.concatenate(parts)


def _summary(scores: Float32[np.ndarray, " s"], temperature: float, top_k: int) -> tuple[float, float]:
    """The k-th best score, and the log of the sum of the exponentials."""
    if len(scores) == 0:
        return -np.inf, -np.inf
    kth = float(np.partition(scores, -top_k)[-top_k]) if len(scores) >= top_k else -np.inf
    return kth, _log_sum_exp(scores.astype(np.float64) / temperature)


def _share_outside(side: _Side, bound: Float64[np.ndarray, " c"], opened: Bool[np.ndarray, " c"], held: float) -> float:
    outside = ~opened & (side.caps.count > 0)
    if not outside.any():
        return 0.0
    others = _log_sum_exp(bound[outside] / side.temperature + np.log(side.caps.count[outside]))
    return 1.0 if held == -np.inf else float(expit(others - held))


def _log_sum_exp(values: Float64[np.ndarray, " n"]) -> float:
    # SciPy's takes longer than the search itself.
    most = float(values.max())
    return most + float(np.log(np.exp(values - most).sum()))
