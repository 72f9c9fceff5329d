"""What stands round reports on disk: the photographs, the candidates and the leakage report of their split."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from swclip.data.manifest import Manifest, read_manifest
from swclip.data.splits import Asked, Splits, candidates_for, leakage_path, read_splits
from swclip.errors import MismatchError, SwclipError
from swclip.comparison.comparison import Comparison
from swclip.evaluation.measure import Evaluation
from swclip.files import read_json


@dataclass(frozen=True)
class Surroundings:
    """What was found.

    Attributes:
        comparison: The comparison, its evaluations with their candidates where these were found.
        manifest: The photographs; None where they were not found.
        leakage: The leakage report of the splits; None where there is none.
        notes: What was not found, and how to say where it is; sentences.
    """

    comparison: Comparison
    manifest: Manifest | None
    leakage: Mapping[str, Any] | None
    notes: list[str]


def find_surroundings(
    comparison: Comparison,
    *,
    manifest: str | os.PathLike[str] | None = None,
    splits: str | os.PathLike[str] | None = None,
) -> Surroundings:
    """Find the manifest and the splits that the reports name, where they were or where they are now.

    What the reports name and is not there any more, or is another one by now, is left out and noted; what was given
    must be the right one.

    Args:
        comparison: Of reports.
        manifest: Where the manifest is now.
        splits: Where the splits are now.

    Raises:
        ArtefactError: The given manifest or splits are not there or cannot be read.
        MismatchError: They are not those that the reports were made from.
    """
    made = next(iter(comparison.evaluations[comparison.baseline].values())).report.get("made_with") or {}
    notes: list[str] = []
    table = _manifest(made.get("manifest") or {}, manifest, notes)
    recorded = comparison.document["made_with"].get("splits")
    if recorded is None and splits is not None:
        raise MismatchError(f"{os.fspath(splits)}: the reports are of different splits; leave --splits out.")
    found = _splits(recorded or {}, splits, notes)
    leakage = None
    if found is not None:
        leaks = leakage_path(found.path)
        leakage = read_json(leaks, "the leakage report") if leaks.is_file() else None
        comparison = _with_candidates(comparison, found)
    return Surroundings(comparison, table, leakage, notes)


def _manifest(recorded: Mapping[str, Any], given: str | os.PathLike[str] | None, notes: list[str]) -> Manifest | None:
    if given is None and not recorded.get("path"):
        return None
    try:
        table = read_manifest(str(recorded["path"]) if given is None else given)
    except SwclipError:
        if given is not None:
            raise
        notes.append(f"No photographs on the page: {recorded['path']} is not there; say where it is with --manifest.")
        return None
    digest = recorded.get("digest")
    if digest == table.digest:
        return table
    told = f"{table.path}: not the manifest of the reports (digest {table.digest[:12]}, not {str(digest)[:12]})"
    if given is not None:
        raise MismatchError(f"{told}; give theirs with --manifest, or leave it out.")
    notes.append(f"No photographs on the page. {told}; say where theirs is with --manifest.")
    return None


def _splits(recorded: Mapping[str, Any], given: str | os.PathLike[str] | None, notes: list[str]) -> Splits | None:
    if given is None and not recorded.get("path"):
        return None
    try:
        found = read_splits(str(recorded["path"]) if given is None else given)
    except SwclipError:
        if given is not None:
            raise
        notes.append(
            f"No candidates and no leakage report on the page: {recorded['path']} is not there; say where it is with "
            "--splits."
        )
        return None
    if found.meta == {name: value for name, value in recorded.items() if name != "path"}:
        return found
    if given is not None:
        raise MismatchError(f"{found.path}: not the splits of the reports; give theirs with --splits, or leave it out.")
    notes.append(
        f"No candidates and no leakage report on the page: {found.path} has changed since the reports were made."
    )
    return None


def _with_candidates(comparison: Comparison, splits: Splits) -> Comparison:
    tables: dict[Asked, pd.DataFrame] = {}

    def filled(found: Evaluation) -> Evaluation:
        on: Asked = "val" if found.report.get("on") == "val" else "query"
        if on not in tables:
            tables[on] = candidates_for(splits, on)
        known = len(found.candidates) > 0 or len(tables[on]) != found.report["gallery_size"]
        return found if known else replace(found, candidates=tables[on])

    runs = {name: {seed: filled(found) for seed, found in of.items()} for name, of in comparison.evaluations.items()}
    return Comparison(comparison.document, runs)
