"""The shortlist of a query: the part of a gallery on disk that its answer uses, and the probability of the rest.

The index of a gallery too large for memory returns the k most similar locations and photographs. Their candidates, and
those within the kernel's reach of the best of them, are the shortlist S: a gallery read from the table. Its
probabilities are nevertheless those of the whole gallery. A softmax over S alone would be overconfident: at the
temperature of the locations a million poor candidates have as much mass as a few good ones. The sum over the others is
therefore estimated from a uniform sample R of candidates, drawn once and kept in memory:

    Z = sum_{m in S} exp(s_m / T) + (M - |S|) / |R \\ S| sum_{m in R \\ S} exp(s_m / T)

The candidates of S then have the probability 1 - `outside` together. If R is the whole gallery, Z is exact.

References:
    S. Mussmann, S. Ermon, "Learning and inference via maximum inner product search", ICML 2016 (the best by an index,
    the others by a uniform sample).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Float, Float32, Float64, Int64
from scipy.special import logsumexp

from swclip.calibration.posterior_config import PosteriorConfig
from swclip.errors import ArtefactError, ConfigError
from swclip.gallery import ann
from swclip.gallery.gallery import Gallery
from swclip.gallery.schema import ATTRIBUTION, attribution_of
from swclip.gallery.vector_index import Effort, VectorIndex
from swclip.geo.neighbours import SphereIndex
from swclip.geo.spatial_smoothing import reach_m
from swclip.models.photograph_vectors import PhotographVectors, Vectors, as_vectors
from swclip.retrieval.point_estimates import geometric_median
from swclip.retrieval.scores import Photographed, location_similarity
from swclip.retrieval.scores import image_logits as image_logits_of

if TYPE_CHECKING:
    from lancedb.table import Table

LOCATION, IMAGE, WHITENED = "location_embedding", "image_embedding", "image_whitened"
_HUBNESS = "image_hubness"


@dataclass(frozen=True)
class ShortlistConfig:
    """Sizes of shortlist and sample.

    Attributes:
        k: Number of candidates that the index returns by their locations, and of photographs that it returns.
        around: Number of the best candidates whose spatial neighbours are added, for the smoothing.
        sample: Candidates sampled to estimate the sum over the others; 16,384 of dimension 512 take 32 MB.
        effort: Effort of the index search; None for its defaults.
        seed: Seed of the sample.

    Raises:
        ConfigError: A number is too small.
    """

    k: int = 512
    around: int = 8
    sample: int = 16_384
    effort: Effort | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.k < 1 or self.around < 0 or self.sample < 1:
            raise ConfigError(
                f"k is {self.k}, around {self.around} and sample {self.sample}: k and sample must be 1 or more, and "
                "around 0 or more."
            )


@dataclass(frozen=True, eq=False)
class Shortlist:
    """The shortlist of one query.

    Attributes:
        rows: (S,) rows of its candidates in the whole gallery, increasing.
        gallery: The candidates and their photographs.
        log_posterior: (S,) log probabilities, not smoothed; the exponentials sum to 1 - `outside`.
        outside: Probability of all other candidates together, estimated from the sample.
        others: (O,) rows of the sampled candidates that are not in the shortlist.
        log_others: (O,) log probabilities of the candidates that each of them represents; the exponentials sum to
            `outside`.
    """

    rows: Int64[np.ndarray, " s"]
    gallery: Gallery
    log_posterior: Float64[np.ndarray, " s"]
    outside: float
    others: Int64[np.ndarray, " o"]
    log_others: Float64[np.ndarray, " o"]

    def geometric_median(self, positions_deg: Float64[np.ndarray, "m 2"]) -> Float64[np.ndarray, " 2"]:
        """The point with the least expected distance to the truth, over the shortlist and the sample.

        Args:
            positions_deg: (M, 2) positions of the whole gallery, degrees.

        Returns:
            (2,) latitude, longitude in degrees.
        """
        log_p = np.concatenate([self.log_posterior, self.log_others])
        possible = np.isfinite(log_p)
        rows = np.concatenate([self.rows, self.others])[possible]
        return np.asarray(geometric_median(log_p[None, possible], positions_deg[rows])[0])


class Shortlister:
    """Computes shortlists from a gallery's table.

    Positions, ids and cities of all candidates are kept in memory (about 250 bytes each), embeddings on disk.

    Args:
        table: A gallery's table: `candidate_id`, `image_id` (null for a position), `lat_deg`, `lon_deg`, `city`,
            `location_embedding`, `image_embedding` (null for a position), `image_hubness` where the posterior
            subtracts it, and `image_whitened` where it uses whitened features. It is checked out at its current
            version: pass a handle that has no other use.
        meta: The gallery's `meta`: the model's `fingerprint`, and its `posterior` if one was fitted.
        config: Sizes of shortlist and sample.
        indices: Folder of the indices of the table; a column without one is read completely for each query.

    Attributes:
        gallery: All candidates, with embeddings of dimension 0.
        indices: The index of each column that has one.

    Raises:
        ArtefactError: The table is not that of a gallery, or entries of one candidate are at several positions.
    """

    def __init__(
        self,
        table: Table,
        meta: Mapping[str, Any],
        config: ShortlistConfig | None = None,
        indices: Path | None = None,
    ) -> None:
        table.checkout(table.version)
        self.table, self.config = table, config or ShortlistConfig()
        self._entry_ids, self._entry_candidate, self._location_row_ids, self._image_row_ids, self.gallery = (
            _without_embeddings(table, meta)
        )
        self.indices: dict[str, VectorIndex] = {}
        if indices is not None:
            for column in (LOCATION, IMAGE, WHITENED):
                present = self._entry_ids if column == LOCATION else np.sort(self._image_row_ids)
                if (index := VectorIndex.open(indices, table, column, present)) is not None:
                    self.indices[column] = index
        self.photographed = Photographed.of(self.gallery)
        self._index = SphereIndex(self.gallery.positions_deg)
        count = min(self.config.sample, len(self.gallery))
        sampled = np.random.default_rng(self.config.seed).choice(len(self.gallery), count, replace=False)
        self._sampled_rows = np.sort(sampled).astype(np.int64)
        self._sample = self.read(self._sampled_rows)

    def read(self, rows: Int64[np.ndarray, " s"]) -> Gallery:
        """Read the gallery of a subset of the candidates, with their embeddings.

        Args:
            rows: (S,) candidates, increasing.
        """
        photographs = self.gallery.photographs_of(rows)
        location_ids, image_ids = self._location_row_ids[rows], self._image_row_ids[photographs]
        row_ids = np.unique(np.concatenate([location_ids, image_ids]))
        optional = (_HUBNESS, WHITENED, *ATTRIBUTION)
        columns = [LOCATION, IMAGE, *(name for name in optional if name in self.table.schema.names)]
        table = ann.take(self.table, row_ids, columns)
        dim = int(table.schema.field(LOCATION).type.list_size)
        location_at, image_at = np.searchsorted(row_ids, location_ids), np.searchsorted(row_ids, image_ids)
        image_hubness = None
        if _HUBNESS in columns:
            values = table[_HUBNESS].take(pa.array(image_at))
            image_hubness = values.to_numpy().astype(np.float32) if values.null_count == 0 else None
        image_whitened = None
        if WHITENED in columns:
            width = int(table.schema.field(WHITENED).type.list_size)
            image_whitened = ann.matrix(table[WHITENED], width)[image_at]
        return replace(
            self.gallery.take(rows),
            location_embeddings=ann.matrix(table[LOCATION], dim)[location_at],
            image_embeddings=ann.matrix(table[IMAGE], dim)[image_at],
            image_hubness=image_hubness,
            image_whitened=image_whitened,
            image_attribution=(
                attribution_of(table.select(ATTRIBUTION).take(image_at)) if {*ATTRIBUTION} <= {*columns} else None
            ),
        )

    def shortlist(self, query: Vectors, config: PosteriorConfig) -> Shortlist:
        """Compute the shortlist of one query.

        Args:
            query: Vectors of one photograph.
            config: Temperatures, weight of the images, smoothing.

        Raises:
            MismatchError: The query has another dimension than the gallery, or the posterior uses hubness or whitened
                features that the table does not have.
        """
        vectors = as_vectors(query)
        rows = self._most_similar(vectors.embeddings, LOCATION)
        if config.image_weight > 0.0 and self.gallery.image_ids:
            rows = np.union1d(rows, self._most_similar(vectors.embeddings, IMAGE))
            if config.whitened_temperature is not None and vectors.whitened is not None:
                rows = np.union1d(rows, self._most_similar(vectors.whitened, WHITENED))
        shortlist = self._shortlist_of(vectors, config, rows)
        extended = self._with_neighbours(rows, shortlist.log_posterior, config)
        return shortlist if len(extended) == len(rows) else self._shortlist_of(vectors, config, extended)

    def _most_similar(self, query: Float32[np.ndarray, "1 d"], column: str) -> Int64[np.ndarray, " s"]:
        """Candidates of the most similar entries.

        Entries of one candidate have the same location: for k candidates, more entries are requested in proportion.
        """
        entries, candidates = len(self._entry_ids), len(self.gallery)
        k = self.config.k if column != LOCATION else -(-self.config.k * entries // candidates)
        k = min(k, entries)
        if column in self.indices:
            row_ids = self.indices[column].search(query, k, self.config.effort).row_ids[0]
        else:
            row_ids = ann.exact_search(self.table, column, query, k).row_ids[0]
        return np.unique(self._entry_candidate[np.searchsorted(self._entry_ids, row_ids[row_ids != ann.NOTHING])])

    def _with_neighbours(
        self, rows: Int64[np.ndarray, " s"], log_p: Float64[np.ndarray, " s"], config: PosteriorConfig
    ) -> Int64[np.ndarray, " t"]:
        """Add the candidates within the kernel's reach of the best rows."""
        radius_m = reach_m(config.smoothing_m, config.kernel)
        if radius_m == 0.0 or self.config.around == 0:
            return rows
        best = rows[np.argsort(-log_p, kind="stable")[: self.config.around]]
        return np.unique(np.concatenate([rows, *self._index.within(self.gallery.positions_deg[best], radius_m)]))

    def _shortlist_of(
        self, query: PhotographVectors, config: PosteriorConfig, rows: Int64[np.ndarray, " s"]
    ) -> Shortlist:
        """Probabilities as in `scores.log_probability`, with the sums over the whole gallery."""
        part = self.read(rows)
        photographed, sampled = Photographed.of(part), Photographed.of(self._sample)
        is_other = ~np.isin(self._sampled_rows, rows)
        logits = location_similarity(query.embeddings, part)[0] / config.location_temperature
        other_logits = location_similarity(query.embeddings, self._sample)[0] / config.location_temperature
        scale = _log_scale(is_other, len(self.gallery) - len(rows))
        log_z = np.logaddexp(logsumexp(logits), _log_sum(other_logits, is_other, scale))
        log_p, log_others = logits.astype(np.float64) - log_z, other_logits.astype(np.float64) - log_z + scale
        if config.image_weight > 0.0 and len(photographed.rows):
            is_other_image = is_other[sampled.rows]
            image_scale = _log_scale(is_other_image, len(self.photographed.rows) - len(photographed.rows))
            # c of `log_probability`: the location evidence of photographed candidates, in the shortlist and elsewhere.
            log_location, log_other_location = log_p[photographed.rows], other_logits[sampled.rows] - log_z
            log_c = np.logaddexp(logsumexp(log_location), _log_sum(log_other_location, is_other_image, image_scale))
            image_logits, other_image_logits = (
                image_logits_of(query, gallery, grouped, config)[0]
                for gallery, grouped in ((part, photographed), (self._sample, sampled))
            )
            log_image_z = np.logaddexp(
                logsumexp(image_logits), _log_sum(other_image_logits, is_other_image, image_scale)
            )
            weight = config.image_weight
            with np.errstate(divide="ignore"):
                log_keep, log_give = np.log1p(-weight), np.log(weight) + log_c - log_image_z
            log_p[photographed.rows] = np.logaddexp(log_keep + log_location, log_give + image_logits)
            log_others[sampled.rows] = np.logaddexp(
                log_keep + log_others[sampled.rows], log_give + other_image_logits + image_scale
            )
        outside = float(np.clip(1.0 - np.exp(log_p).sum(), 0.0, 1.0))
        log_others = log_others[is_other]
        if outside > 0.0 and len(log_others):
            log_others += np.log(outside) - logsumexp(log_others)
        else:
            log_others = np.full(len(log_others), -np.inf)
        return Shortlist(rows, part, log_p, outside, self._sampled_rows[is_other], log_others)


def _log_scale(is_other: Bool[np.ndarray, " r"], rest: int) -> float:
    """Log of the number of candidates that each sampled one outside the shortlist represents; -inf without any."""
    return float(np.log(rest / np.count_nonzero(is_other))) if rest and is_other.any() else -np.inf


def _log_sum(logits: Float[np.ndarray, " r"], is_other: Bool[np.ndarray, " r"], scale: float) -> float:
    """Log of the sum of exponentials over all candidates outside the shortlist, estimated from the sampled ones."""
    return -np.inf if scale == -np.inf else float(logsumexp(logits[is_other].astype(np.float64)) + scale)


def _without_embeddings(
    table: Table, meta: Mapping[str, Any]
) -> tuple[Int64[np.ndarray, " e"], Int64[np.ndarray, " e"], Int64[np.ndarray, " m"], Int64[np.ndarray, " p"], Gallery]:
    """Read a table without its embeddings.

    Returns:
        Row ids of all entries, increasing, and the candidate of each; a row id for each candidate's location; the row
        id of each photograph; and the gallery: candidates sorted by latitude, longitude and id, photographs by
        candidate and id.
    """
    columns = ("candidate_id", "image_id", "lat_deg", "lon_deg", "city")
    missing = [name for name in (*columns, LOCATION, IMAGE) if name not in table.schema.names]
    if missing:
        raise ArtefactError(f"the gallery's table has no column {missing[0]!r}; make the gallery again: swclip index")
    selection: dict[str, Any] = {name: name for name in columns} | {"has_image": f"{IMAGE} IS NOT NULL"}
    scan = table.search().select(selection).with_row_id(True).to_arrow()
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
    photographs = np.flatnonzero(scan["has_image"].to_numpy(zero_copy_only=False))
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
