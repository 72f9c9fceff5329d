"""The candidates of a new gallery: from a manifest, its splits, or a grid."""

from __future__ import annotations

import pandas as pd

from swclip.data.candidates import area_candidates
from swclip.data.manifest import Manifest
from swclip.data.splits import Splits, candidates_for, check_same_manifest
from swclip.errors import ConfigError
from swclip.gallery.build import manifest_candidates

CITIES = "cities"
"""A grid over the bounding box of each city of a manifest, in place of a file of polygons."""


def candidates_from(
    manifest: Manifest | None,
    splits: Splits | None = None,
    *,
    photographs: bool = True,
    grid: str | None = None,
    spacing_m: float | None = None,
) -> pd.DataFrame:
    """The candidates of a gallery.

    Args:
        manifest: The photographs; None for a gallery of positions alone.
        splits: Use only the candidates of the queries in these splits.
        photographs: Whether answers may use the photographs.
        grid: A GeoJSON file of polygons, or `CITIES`.
        spacing_m: Metres between the grid's points.

    Returns:
        candidate_id, lat_deg, lon_deg, city, image_ids.

    Raises:
        ConfigError: The options cannot be combined.
        InputError: The polygons cannot be used, or the grid would have too many points or none.
        MismatchError: The splits were made from another manifest.
    """
    _check(manifest is not None, splits is not None, grid, spacing_m)
    if manifest is None:
        return area_candidates(grid or "", spacing_m or 0.0)
    if splits is None:
        candidates = manifest_candidates(manifest, spacing_m, photographs=photographs)
    else:
        check_same_manifest(splits, manifest)
        candidates = candidates_for(splits, "query")
    if not photographs:
        candidates["image_ids"] = pd.Series([[] for _ in range(len(candidates))], dtype=object)
    return candidates


def _check(manifest: bool, splits: bool, grid: str | None, spacing_m: float | None) -> None:
    if splits and grid is not None:
        raise ConfigError(
            "--grid and --splits both define the candidates: give one. A grid can be made part of the splits "
            "with: swclip split MANIFEST --gallery grid:METRES"
        )
    if (grid is None) != (spacing_m is None):
        raise ConfigError("--grid and --spacing-m go together: the area of the grid, and metres between its points.")
    if spacing_m is not None and not spacing_m > 0:
        raise ConfigError(f"--spacing-m {spacing_m:g}: must be a positive number of metres, such as 20.")
    if grid is None and not manifest:
        raise ConfigError(
            "give the source of the candidates: swclip index RUN MANIFEST, or swclip index RUN --grid POLYGONS.geojson "
            "--spacing-m 20"
        )
    if splits and not manifest:
        raise ConfigError("splits need their manifest; give it too.")
    if grid == CITIES and not manifest:
        raise ConfigError(
            "--grid cities covers the cities of a manifest; give one: swclip index RUN MANIFEST --grid cities"
        )
    if grid not in (None, CITIES) and manifest:
        raise ConfigError(
            f"--grid {grid} makes a gallery of positions alone: leave the manifest out. Its photographs can be put in "
            "afterwards with: swclip gallery append GALLERY MANIFEST"
        )
