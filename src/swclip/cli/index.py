"""`swclip index`: a gallery from a run and a manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from swclip.errors import ConfigError


def index(
    run: str | Path,
    manifest: Path,
    /,
    *,
    out: Path,
    splits: Path | None = None,
    photographs: bool = True,
    grid: Annotated[float | None, Parameter(name="--grid")] = None,
    cache: bool = True,
    batch_size: int = 64,
    workers: int | None = None,
) -> None:
    """Embed the places that answers may name, once, into a gallery that `swclip locate` answers from.

    Args:
        run: The run (or model folder) whose model embeds them, or a model's name on the hub: hf://OWNER/NAME, or
            OWNER/NAME where no such path is there.
        manifest: The photographs, as `swclip prepare` or `swclip synth` wrote them.
        out: The gallery's folder; a gallery that is there is replaced.
        splits: Take only what these splits allow as candidates of the queries, not everything in the manifest.
        photographs: Let answers lean on the photographs too, not on their positions alone.
        grid: In place of the photographs' positions, a grid over each city at this spacing in metres.
        cache: Keep image features in $SWCLIP_CACHE (or ~/.cache/swclip), so that an interrupted run goes on where it
            was, and a later one computes only what is new.
        batch_size: Photographs that the model sees at once.
        workers: Threads that decode photographs; one a processor if not given.
    """
    import pandas as pd

    from swclip.cli.console import console, progress_bar
    from swclip.data.manifest import read_manifest
    from swclip.data.splits import candidates_for, check_same_manifest, read_splits
    from swclip.models.locator_model import load_model
    from swclip.models.published import model_folder
    from swclip.retrieval.build import build_gallery, manifest_candidates
    from swclip.retrieval.conformal import read_calibration
    from swclip.retrieval.embed import Failure
    from swclip.retrieval.feature_cache import FeatureCache
    from swclip.retrieval.gallery import check_output
    from swclip.retrieval.hubness import read_bank
    from swclip.retrieval.posterior import read_posterior

    if splits is not None and grid is not None:
        raise ConfigError(
            "--grid and --splits both say what the candidates are: give one. A grid can be made part of the splits "
            f"with: swclip split MANIFEST --gallery grid:{grid:g}"
        )
    if grid is not None and not grid > 0:
        raise ConfigError(f"--grid {grid:g}: the spacing must be a positive number of metres, such as 10.")
    check_output(out)
    table = read_manifest(manifest)
    if splits is not None:
        chosen = read_splits(splits)
        check_same_manifest(chosen, table)
        candidates = candidates_for(chosen, "query")
    else:
        candidates = manifest_candidates(table, grid, photographs=photographs)
    if not photographs:
        candidates["image_ids"] = pd.Series([[] for _ in range(len(candidates))], dtype=object)
    folder = model_folder(run)  # downloaded once, where it is on the hub
    model, calibration = load_model(folder), read_calibration(folder)
    failures: list[Failure] = []
    with progress_bar("Embedding the gallery") as progress:
        gallery = build_gallery(
            model,
            candidates,
            table,
            posterior=read_posterior(folder),
            bank=read_bank(folder),
            batch_size=batch_size,
            workers=workers,
            cache=FeatureCache() if cache else None,
            failures=failures,
            progress=progress,
        )
    gallery.save(out, model, calibration)
    for path, reason in failures:
        console.print(f"left out: {path}: {reason}", markup=False, highlight=False)
    left_out = f"; {len(failures)} photographs left out (listed in gallery.json)" if failures else ""
    console.print(f"{out}: {len(gallery)} candidates, {len(gallery.image_ids)} photographs{left_out}", markup=False)
