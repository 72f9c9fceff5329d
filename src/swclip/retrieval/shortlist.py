"""The part of a gallery on disk that a query's answer is made from, and how probable all the rest is.

A gallery too large for memory is asked by its index for the k most similar locations and photographs. Their
candidates, and those near the best of them on the ground, are the shortlist S: a gallery of its own, read from the
table. Its probabilities are those of the whole gallery all the same. A softmax over S alone would be too sure: at the
temperature of the locations a million poor candidates weigh as much as a few good ones. So the sum over the others is
estimated from candidates that were drawn once, evenly, and are held in memory:

    Z = sum_{m in S} exp(s_m / T) + (M - |S|) / |R \\ S| sum_{m in R \\ S} exp(s_m / T)

The candidates of S then hold 1 - `outside` together. Where R is the whole gallery, Z is exact.

References:
    S. Mussmann, S. Ermon, "Learning and inference via maximum inner product search", ICML 2016 (the best by an index,
    the others by a uniform sample).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc
from jaxtyping import Bool, Float, Float32, Float64, Int64
from scipy.special import logsumexp

from swclip.calibration.posterior_config import PosteriorConfig
from swclip.errors import ArtefactError, ConfigError
from swclip.gallery import ann
from swclip.gallery.gallery import Gallery
from swclip.gallery.hubness import Hubness
from swclip.geo.neighbours import SphereIndex
from swclip.geo.spatial_smoothing import reach_m
from swclip.retrieval.coarse import part_of
from swclip.retrieval.point_estimates import geometric_median
from swclip.retrieval.scores import Photographed, image_similarity, location_similarity

if TYPE_CHECKING:
    from lancedb.table import Table

LOCATION, IMAGE = "location_embedding", "image_embedding"
_HUBNESS = ("location_hubness", "image_hubness")


@dataclass(frozen=True)
class ShortlistConfig:
    """How a shortlist is made.

    Attributes:
        k: Candidates that the index is asked for, by their locations, and as many photographs.
        around: So many of the best candidates bring in those near them on the ground, for the smoothing.
        sample: Candidates drawn for the estimate of what the others hold; 16,384 of 512 numbers are 32 MB.
        effort: How thorough the index searches; None for its defaults.
        seed: Of the draw.

    Raises:
        ConfigError: A number is too small.
    """

    k: int = 512
    around: int = 8
    sample: int = 16_384
    effort: ann.Effort | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.k < 1 or self.around < 0 or self.sample < 1:
            raise ConfigError(
                f"k is {self.k}, around {self.around} and sample {self.sample}: k and sample must be 1 or more, and "
                "around 0 or more."
            )


@dataclass(frozen=True, eq=False)
class Shortlist:
    """Candidates of one query.

    Attributes:
        rows: (S,) their numbers in the whole gallery, increasing.
        gallery: They and their photographs.
        log_posterior: (S,) log probabilities, not smoothed; the exponentials sum to 1 - `outside`.
        outside: What all other candidates hold together, as estimated from the sample.
        others: (O,) numbers of the sampled candidates that are not in the shortlist.
        log_others: (O,) log probabilities of what each of them stands for; the exponentials sum to `outside`.
    """

    rows: Int64[np.ndarray, " s"]
    gallery: Gallery
    log_posterior: Float64[np.ndarray, " s"]
    outside: float
    others: Int64[np.ndarray, " o"]
    log_others: Float64[np.ndarray, " o"]

    def geometric_median(self, positions_deg: Float64[np.ndarray, "m 2"]) -> Float64[np.ndarray, " 2"]:
        """The point with the least expected distance to the truth: the only one that all of the posterior pulls at.

        Args:
            positions_deg: (M, 2) of the whole gallery, degrees.
        """
        log_p = np.concatenate([self.log_posterior, self.log_others])
        there = np.isfinite(log_p)
        rows = np.concatenate([self.rows, self.others])[there]
        return np.asarray(geometric_median(log_p[None, there], positions_deg[rows])[0])


class Shortlister:
    """Makes shortlists from a gallery's table.

    Positions, ids and cities of all candidates are held in memory (some 250 bytes each), embeddings stay on disk.

    Args:
        table: A gallery's table: `candidate_id`, `image_id` (null for a position), `lat_deg`, `lon_deg`, `city`,
            `location_embedding`, `image_embedding` (null where there is none), and `location_hubness` and
            `image_hubness` where the posterior takes them off. It is checked out at its present version: give a handle
            that is used for nothing else.
        meta: What the gallery's `meta` is to hold, the model's fingerprint first.
        config: How shortlists are made.

    Attributes:
        gallery: All candidates, with embeddings of no dimension.

    Raises:
        ArtefactError: Entries of one candidate are at several positions, or there are none.
        InputError: The table has no such columns.
    """

    def __init__(self, table: Table, meta: Mapping[str, Any], config: ShortlistConfig | None = None) -> None:
        table.checkout(table.version)
        self.table, self.config = table, config or ShortlistConfig()
        self._entry_ids, self._entry_candidate, self._located_at, self._seen_at, self.gallery = _light(table, meta)
        self.photographed = Photographed.of(self.gallery)
        self._index = SphereIndex(self.gallery.positions_deg)
        count = min(self.config.sample, len(self.gallery))
        drawn = np.random.default_rng(self.config.seed).choice(len(self.gallery), count, replace=False)
        self._drawn = np.sort(drawn).astype(np.int64)
        self._sample = self.read(self._drawn)

    def read(self, rows: Int64[np.ndarray, " s"]) -> Gallery:
        """The gallery of some candidates, with their embeddings.

        Args:
            rows: Their numbers, increasing.
        """
        part = part_of(self.gallery, rows)
        photographs = np.flatnonzero(np.isin(self.gallery.image_rows, rows))
        located, seen = self._located_at[rows], self._seen_at[photographs]
        hubness = [name for name in _HUBNESS if name in self.table.schema.names]
        wanted = np.unique(np.concatenate([located, seen]))
        table = ann.take(self.table, wanted, [LOCATION, IMAGE, *hubness])
        dim = int(table.schema.field(LOCATION).type.list_size)
        at, seen_at = np.searchsorted(wanted, located), np.searchsorted(wanted, seen)
        measured = None
        if len(hubness) == len(_HUBNESS) and table[_HUBNESS[0]].null_count == 0:
            locations, images = (table[name].to_numpy().astype(np.float32) for name in _HUBNESS)
            measured = Hubness(locations[at], images[seen_at])
        return replace(
            part,
            location_embeddings=ann.matrix(table[LOCATION], dim)[at],
            image_embeddings=ann.matrix(table[IMAGE], dim)[seen_at],
            hubness=measured,
        )

    def shortlist(self, query: Float32[np.ndarray, " d"], config: PosteriorConfig) -> Shortlist:
        """The shortlist of one query.

        Args:
            query: (D,) unit vector.
            config: Temperatures, weight of the images, smoothing.

        Raises:
            MismatchError: The query has another dimension than the gallery, or the posterior takes off hubness that the
                table does not hold.
        """
        rows = self._asked(query, LOCATION)
        if config.image_weight > 0.0 and self.gallery.image_ids:
            rows = np.union1d(rows, self._asked(query, IMAGE))
        part = self.read(rows)
        found = self._posterior(query, config, rows, part)
        near = self._near(rows, found.log_posterior, config)
        return found if len(near) == len(rows) else self._posterior(query, config, near, self.read(near))

    def _asked(self, query: Float32[np.ndarray, " d"], column: str) -> Int64[np.ndarray, " s"]:
        """Candidates of the most similar entries. Those of one candidate have the same location: so many more then."""
        entries, candidates = len(self._entry_ids), len(self.gallery)
        k = self.config.k if column == IMAGE else -(-self.config.k * entries // candidates)
        # A table of few rows holds no more than it holds, and an index is not asked for all of a large one.
        found = ann.search(self.table, column, query[None], min(k, entries), effort=self.config.effort).row_ids[0]
        return np.unique(self._entry_candidate[np.searchsorted(self._entry_ids, found[found != ann.NOTHING])])

    def _near(
        self, rows: Int64[np.ndarray, " s"], log_p: Float64[np.ndarray, " s"], config: PosteriorConfig
    ) -> Int64[np.ndarray, " t"]:
        """The rows, and those that the smoothing joins to the best of them."""
        radius_m = reach_m(config.smoothing_m, config.kernel)
        if radius_m == 0.0 or self.config.around == 0:
            return rows
        best = rows[np.argsort(-log_p, kind="stable")[: self.config.around]]
        return np.unique(np.concatenate([rows, *self._index.within(self.gallery.positions_deg[best], radius_m)]))

    def _posterior(
        self, query: Float32[np.ndarray, " d"], config: PosteriorConfig, rows: Int64[np.ndarray, " s"], part: Gallery
    ) -> Shortlist:
        """Probabilities as in `evidence.log_probability`, with the sums over the whole gallery."""
        photographed, sampled = Photographed.of(part), Photographed.of(self._sample)
        new = ~np.isin(self._drawn, rows)
        rest = len(self.gallery) - len(rows)
        own = location_similarity(query[None], part, config.location_hubness)[0] / config.location_temperature
        other = location_similarity(query[None], self._sample, config.location_hubness)[0] / config.location_temperature
        scale = _log_scale(new, rest)
        total = np.logaddexp(logsumexp(own), _log_sum(other, new, scale))
        located, others = own.astype(np.float64) - total, other.astype(np.float64) - total + scale
        if config.image_weight > 0.0 and len(photographed.rows):
            seen_new = new[sampled.rows]
            seen_scale = _log_scale(seen_new, len(self.photographed.rows) - len(photographed.rows))
            # The probability that the locations give to candidates with photographs, in the shortlist and elsewhere.
            there, elsewhere = located[photographed.rows], other[sampled.rows] - total
            reach = np.logaddexp(logsumexp(there), _log_sum(elsewhere, seen_new, seen_scale))
            t = config.image_temperature
            seen = image_similarity(query[None], part, photographed, config.image_hubness)[0].astype(np.float64) / t
            far = image_similarity(query[None], self._sample, sampled, config.image_hubness)[0].astype(np.float64) / t
            seen_total = np.logaddexp(logsumexp(seen), _log_sum(far, seen_new, seen_scale))
            weight = config.image_weight
            with np.errstate(divide="ignore"):
                keep, give = np.log1p(-weight), np.log(weight) + reach - seen_total
            located[photographed.rows] = np.logaddexp(keep + there, give + seen)
            others[sampled.rows] = np.logaddexp(keep + others[sampled.rows], give + far + seen_scale)
        outside = float(np.clip(1.0 - np.exp(located).sum(), 0.0, 1.0))
        others = others[new]
        if outside > 0.0 and len(others):
            others += np.log(outside) - logsumexp(others)
        else:
            others = np.full(len(others), -np.inf)
        return Shortlist(rows, part, located, outside, self._drawn[new], others)


def _log_scale(new: Bool[np.ndarray, " r"], rest: int) -> float:
    """Log of how many candidates each new one of a sample stands for; -inf where there are none."""
    return float(np.log(rest / np.count_nonzero(new))) if rest and new.any() else -np.inf


def _log_sum(logits: Float[np.ndarray, " r"], new: Bool[np.ndarray, " r"], scale: float) -> float:
    """Log of the sum of exponentials over all candidates that the new ones of a sample stand for."""
    return -np.inf if scale == -np.inf else float(logsumexp(logits[new].astype(np.float64)) + scale)


def _light(
    table: Table, meta: Mapping[str, Any]
) -> tuple[Int64[np.ndarray, " e"], Int64[np.ndarray, " e"], Int64[np.ndarray, " m"], Int64[np.ndarray, " p"], Gallery]:
    """A table without its embeddings.

    Returns:
        Row ids of all entries, increasing, and the candidate of each; the row that holds each candidate's location; the
        row of each photograph; and the gallery: candidates by latitude, longitude and id, photographs by candidate and
        id.
    """
    columns = ("candidate_id", "image_id", "lat_deg", "lon_deg", "city")
    missing = [name for name in (*columns, LOCATION, IMAGE) if name not in table.schema.names]
    if missing:
        raise ArtefactError(f"the gallery's table has no column {missing[0]!r}; make the gallery again: swclip index")
    chosen: dict[str, Any] = {name: name for name in columns} | {"seen": f"{IMAGE} IS NOT NULL"}
    scan = table.search().select(chosen).with_row_id(True).to_arrow()
    if not len(scan):
        raise ArtefactError("the gallery's table has no entries; make the gallery again: swclip index")
    keys = [(name, "ascending") for name in ("lat_deg", "lon_deg", "candidate_id", "image_id")]
    scan = scan.take(pc.sort_indices(scan, sort_keys=keys))
    names = scan["candidate_id"].to_numpy(zero_copy_only=False)
    first = np.concatenate([[True], names[1:] != names[:-1]])
    starts, candidate = np.flatnonzero(first), np.cumsum(first) - 1
    if len({*names[starts]}) != len(starts):
        raise ArtefactError("entries of one candidate are at several positions: the gallery's table is damaged.")
    ids = scan[ann.ROW_ID].to_numpy().astype(np.int64)
    photographs = np.flatnonzero(scan["seen"].to_numpy(zero_copy_only=False))
    gallery = Gallery(
        candidate_ids=names[starts].tolist(),
        positions_deg=np.stack([scan["lat_deg"].to_numpy()[starts], scan["lon_deg"].to_numpy()[starts]], axis=1),
        cities=scan["city"].take(starts).to_pylist(),
        location_embeddings=np.zeros((len(starts), 0), dtype=np.float32),
        image_embeddings=np.zeros((len(photographs), 0), dtype=np.float32),
        image_rows=candidate[photographs].astype(np.int64),
        image_ids=scan["image_id"].take(photographs).to_pylist(),
        meta=dict(meta),
    )
    order = np.argsort(ids)
    return ids[order], candidate[order].astype(np.int64), ids[starts], ids[photographs], gallery
