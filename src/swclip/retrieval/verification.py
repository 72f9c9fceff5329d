"""Verification: the most probable candidates of a query are compared with it once more, in detail.

A pooled embedding says what is in a photograph, not where. The patch features of a query and of a photograph at a
candidate are compared patch by patch, to a similarity (`swclip.models.patch_matching.patch_similarities`); s of a
candidate is the largest of its photographs. The probabilities of the K most probable candidates V of a query are
multiplied by the evidence of s, and keep the mass that they have together, so that the rest of the posterior stays as
it is:

    p'(m) = p(m) exp(s_m / T_v) / Z      m in V,      with Z such that sum_V p' = sum_V p
    p'(m) = p(m)                         m outside V

Keypoints (`swclip.models.keypoints`) are the second form: s is the logarithm of 1 + the matches that one geometry
explains. A candidate of V that cannot be compared has the mean s of the others: it is neither preferred nor rejected.
K and T_v are `verified_candidates` and `verified_temperature` of a posterior; T_v is fitted on validation queries.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64, Int8, Int64
from scipy.special import logsumexp

from swclip.calibration.conformal import Calibration
from swclip.calibration.posterior_config import PosteriorConfig
from swclip.data.manifest import Manifest, read_manifest
from swclip.errors import ConfigError, MismatchError
from swclip.gallery.gallery import Gallery
from swclip.gallery.patches import AGAIN, PatchSource, Verifier
from swclip.models.embed import PathLike
from swclip.models.keypoints import KeypointMatcher, KeypointVerifier
from swclip.models.patch_matching import PatchMatches, mutual_matches, patch_similarities

SHOWN = 3
"""Candidates of an answer whose matching patches are shown."""

PhotographsOf = Callable[[int], Int64[np.ndarray, " p"]]
"""The photographs at a candidate, as rows of the gallery."""


@dataclass(frozen=True, eq=False)
class Verified:
    """The verified candidates of a query.

    Attributes:
        rows: (K,) candidates, the most probable first.
        similarity: (K,) s of each, NaN where it cannot be compared.
    """

    rows: Int64[np.ndarray, " k"]
    similarity: Float64[np.ndarray, " k"]

    @classmethod
    def of(
        cls,
        log_p: Float64[np.ndarray, " m"],
        query: Any,
        gallery: Gallery,
        photographs_of: PhotographsOf,
        count: int,
    ) -> Verified:
        """Compare a query with its most probable candidates.

        Args:
            log_p: (M,) log probabilities before verification; -inf for excluded candidates, which are not compared.
            query: The query as the gallery's verifier compares it; None where it cannot be compared.
            gallery: The candidates, with a verifier.
            photographs_of: Their photographs.
            count: K.

        Raises:
            MismatchError: The gallery has no verifier.
        """
        if gallery.verifier is None:
            raise MismatchError(
                "the posterior verifies its best candidates, and this gallery has no patch features or photographs to "
                f"compare; make it again with: {AGAIN}"
            )
        rows = np.argsort(-log_p, kind="stable")[:count]
        rows = rows[np.isfinite(log_p[rows])]
        best = np.full(len(rows), np.nan)
        if query is not None:
            photographs = [photographs_of(int(row)) for row in rows]
            ids = [gallery.image_ids[photograph] for at_one in photographs for photograph in at_one.tolist()]
            candidate = np.repeat(np.arange(len(rows)), [len(at_one) for at_one in photographs])
            np.fmax.at(best, candidate, gallery.verifier.compare(query, ids))
        return cls(rows, best)

    def log_factor(self, log_p: Float64[np.ndarray, " m"], temperature: float) -> Float64[np.ndarray, " k"]:
        """Logarithm (K,) of p'(m) / p(m) of the verified candidates.

        Args:
            log_p: (M,) log probabilities before verification.
            temperature: T_v.
        """
        compared = np.isfinite(self.similarity)
        if not compared.any():
            return np.zeros(len(self.rows))
        logits = np.where(compared, self.similarity, self.similarity[compared].mean()) / temperature
        before = log_p[self.rows]
        return np.asarray(logits - logsumexp(logits + before) + logsumexp(before))


def log_factors(
    log_p: Float64[np.ndarray, "q m"],
    queries: Sequence[Any] | None,
    gallery: Gallery,
    config: PosteriorConfig,
    photographs_of: PhotographsOf,
) -> Float64[np.ndarray, "q m"]:
    """Logarithm (Q, M) of p'(m) / p(m), 0 where a candidate is not verified.

    Args:
        log_p: (Q, M) log probabilities before verification.
        queries: Q queries as the gallery's verifier compares them, `PhotographVectors.details`.
        gallery: The candidates.
        config: The posterior.
        photographs_of: The photographs at a candidate.

    Raises:
        MismatchError: The gallery or the queries have nothing to compare.
    """
    factors = np.zeros_like(log_p)
    if not config.verified_candidates or config.verified_temperature is None:
        return factors
    if queries is None:
        raise MismatchError(
            "the posterior verifies its best candidates, and the queries have nothing to compare; embed them with "
            "patches=True (swclip.models.embed.photograph_vectors), or give their paths as `details` for keypoints."
        )
    for row, query in enumerate(queries):
        verified = Verified.of(log_p[row], query, gallery, photographs_of, config.verified_candidates)
        factors[row, verified.rows] = verified.log_factor(log_p[row], config.verified_temperature)
    return factors


def patch_source(gallery: Gallery) -> PatchSource:
    """The patch features of a gallery, whose matches can be shown.

    Raises:
        ConfigError: The gallery has none.
    """
    if not isinstance(gallery.verifier, PatchSource):
        raise ConfigError(f"the gallery has no patch features, whose matches are shown; make it again with: {AGAIN}")
    return gallery.verifier


def matches_at(
    query: Int8[np.ndarray, "y x w"] | None, source: PatchSource, candidates: Sequence[Sequence[str]]
) -> list[tuple[str, PatchMatches] | None]:
    """The patches that match between a query and the most similar photograph at each of several candidates.

    Args:
        query: Patch features of the query; None where it has none.
        source: Patch features of the gallery.
        candidates: Ids of the photographs at each candidate.

    Returns:
        For each candidate the photograph and its matches, None where no photograph has patch features.
    """
    shown: list[tuple[str, PatchMatches] | None] = []
    for image_ids in candidates:
        patches = {
            name: values for name, values in zip(image_ids, source.take(image_ids), strict=True) if values is not None
        }
        if query is None or not patches:
            shown.append(None)
            continue
        similarity = patch_similarities(query, list(patches.values()))
        best = list(patches)[int(similarity.argmax())]
        shown.append((best, mutual_matches(query, patches[best])))
    return shown


def with_keypoints(
    gallery: Gallery,
    posterior: PosteriorConfig,
    photographs: Manifest | PathLike,
    name: str | None = None,
    device: str | torch.device = "cpu",
) -> Gallery:
    """A gallery whose photographs are compared by keypoints, as its posterior was fitted.

    Args:
        gallery: The gallery.
        posterior: A posterior with a matcher.
        photographs: The manifest of the gallery's photographs, or its path; those that it lacks are not compared.
        name: Where the matcher is, on the hub or in a folder; None for where it was when the posterior was fitted.
        device: Device of the matcher.

    Raises:
        ConfigError: The matcher cannot be loaded, or the posterior was fitted without one.
        MismatchError: It is another model, or the manifest has none of the gallery's photographs.
        PackageError: OpenCV is not installed.
    """
    if posterior.matcher is None:
        raise ConfigError(
            f"the posterior was not fitted with keypoints, which {name or 'a matcher'} finds: leave it out, or train a "
            "run with it: swclip train MANIFEST ... --verify 10 --verify-with MODEL"
        )
    manifest = photographs if isinstance(photographs, Manifest) else read_manifest(photographs)
    ids = set(gallery.image_ids)
    files = zip(manifest.frame["image_id"].astype(str), manifest.image_paths, strict=True)
    paths = {image_id: path for image_id, path in files if image_id in ids}
    if ids and not paths:
        raise MismatchError(
            f"{manifest.path}: has none of the gallery's {len(ids)} photographs, which verification compares; give the "
            "manifest that the gallery was made from."
        )
    matcher = KeypointMatcher(name or posterior.matcher, device)
    if matcher.fingerprint != posterior.matcher_fingerprint:
        raise MismatchError(
            f"{matcher.name} is not the keypoint matcher that the posterior was fitted with ({posterior.matcher}, "
            f"{posterior.matcher_fingerprint}; this one is {matcher.fingerprint}): its similarities have another "
            "scale. Name the right one with --verify-with, or train again."
        )
    return replace(gallery, verifier=KeypointVerifier(matcher, paths))


def compares(verifier: Verifier | None, posterior: PosteriorConfig) -> bool:
    """Whether a gallery's verifier compares photographs as a posterior was fitted: by patches, or by keypoints."""
    return verifier is not None and isinstance(verifier, KeypointVerifier) == (posterior.matcher is not None)


def needed(posterior: PosteriorConfig) -> str:
    """What verification by a posterior lacks where `compares` is false, and how to get it."""
    if posterior.matcher is None:
        return f"the gallery has no patch features, which verification compares; make it again with: {AGAIN}"
    return (
        f"verification compares photographs with {posterior.matcher}, which needs the gallery's photographs: name "
        "their manifest with --gallery-photographs (swclip locate)."
    )


def with_verification(
    posterior: PosteriorConfig, calibration: Calibration | None, verify: int | None, comparable: bool
) -> tuple[PosteriorConfig, Calibration | None]:
    """A posterior with a number of verified candidates, and its calibration.

    Args:
        posterior: The posterior of an effort.
        calibration: Its calibration, if it has one.
        verify: Number of candidates; None for the fitted number, where the photographs can be compared; 0 for none.
        comparable: Whether the gallery's photographs can be compared, see `compares`.

    Returns:
        The posterior; and its calibration, None where the number is neither 0 nor the fitted one.

    Raises:
        ConfigError: The number is negative, or candidates are to be verified and cannot be.
    """
    if verify is not None and verify < 0:
        raise ConfigError(f"verify is {verify}; give a number of candidates, or 0 for none.")
    count = posterior.verified_candidates if verify is None else verify
    if count == 0 or (verify is None and not comparable):
        return posterior.at("balanced"), None if calibration is None else calibration.at("balanced")
    if posterior.verified_temperature is None:
        raise ConfigError(
            "the posterior has no verification: the run was trained without it (swclip train MANIFEST ... --verify "
            "20), its validation queries did not gain by it, or the effort is not best. Leave --verify out."
        )
    if not comparable:
        raise ConfigError(needed(posterior))
    if count == posterior.verified_candidates:
        return posterior, calibration
    return replace(posterior, verified_candidates=count), None
