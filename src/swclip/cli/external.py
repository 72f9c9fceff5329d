"""`swclip evaluate` for the predictions or embeddings of another tool."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cyclopts import Parameter

from swclip.cli.help import group

if TYPE_CHECKING:
    from swclip.data.manifest import Manifest
    from swclip.data.splits import Splits
    from swclip.evaluation.measure import MeasureConfig
    from swclip.evaluation.report import Report
    from swclip.evaluation.result import Evaluation


_ANOTHER_TOOL = group("Results of another tool")


@Parameter(name="*", group=_ANOTHER_TOOL.group)
@dataclass(frozen=True)
class ExternalOptions:
    """The results of another tool, in place of a run."""

    predictions: Path | None = None
    "Coordinates that another tool predicted: a CSV, Parquet, GeoParquet or GeoJSON table, one row per answer."
    embeddings: Path | None = None
    "Embeddings of another tool, with ids, positions and roles: .npz or .parquet, or .npy or .safetensors with a table."
    gallery_embeddings: Path | None = None
    "The gallery's embeddings, where they are in a separate file."
    gallery: Path | None = None
    "The candidates of the tool of --predictions: a table of positions, for the oracle error and the baselines."
    column: list[str] | None = None
    "ROLE=NAME: the column with a role, where it has another name than the role; can be repeated."
    similarity: Literal["cosine", "l2"] | None = None
    "Similarity of --embeddings: cosine (the default), or l2 for Euclidean distance."
    crs: str | None = None
    "Projection of the columns easting and northing of --embeddings, such as EPSG:32650."
    val_share: float | None = None
    "Share of the queries of --embeddings, in whole blocks, on which the posterior is fitted; they are not evaluated."
    temperature: float | None = None
    "Temperature of the posterior where none is fitted; 0.01 by default."

    def check(self, run: Path | None) -> None:
        """Raise ConfigError unless exactly one source is evaluated, with options that apply to it."""
        from swclip.errors import ConfigError

        sources = {"RUN": run, "--predictions": self.predictions, "--embeddings": self.embeddings}
        chosen = [name for name, value in sources.items() if value is not None]
        if len(chosen) != 1:
            names = " and ".join(chosen) if chosen else "none of them"
            raise ConfigError(f"give one of RUN, --predictions and --embeddings to evaluate, not {names}.")
        applies_to = {
            "gallery_embeddings": ("--embeddings",),
            "gallery": ("--predictions",),
            "column": ("--predictions", "--embeddings"),
            "similarity": ("--embeddings",),
            "crs": ("--embeddings",),
            "val_share": ("--embeddings",),
            "temperature": ("--embeddings",),
        }
        for name, allowed in applies_to.items():
            if getattr(self, name) is not None and chosen[0] not in allowed:
                raise ConfigError(
                    f"--{name.replace('_', '-')} can be used with {' or '.join(allowed)}, not with {chosen[0]}."
                )

    @property
    def columns(self) -> dict[str, str]:
        """The named columns by role."""
        from swclip.errors import ConfigError

        columns: dict[str, str] = {}
        for text in self.column or []:
            role, equals, name = text.partition("=")
            if not equals or not role.strip() or not name.strip():
                raise ConfigError(f"--column {text}: write ROLE=NAME, such as --column predicted_lat=guess_y.")
            columns[role.strip()] = name.strip()
        return columns


def evaluate_external(
    options: ExternalOptions,
    *,
    manifest: Path | None,
    splits: Path | None,
    on: Literal["query", "val"],
    config: MeasureConfig,
    command: str,
) -> tuple[Evaluation, Manifest | None, dict[str, Any] | None]:
    """Evaluate the results of another tool.

    Returns:
        The evaluation; the manifest, or None; and the leakage report of the splits, or None.
    """
    from swclip.data.manifest import read_manifest
    from swclip.data.splits import read_splits
    from swclip.external.evaluate import evaluate_predictions, evaluate_vectors

    table: Manifest | None = None if manifest is None else read_manifest(manifest)
    split: Splits | None = None if splits is None else read_splits(splits)
    common: dict[str, Any] = {
        "manifest": table, "splits": split, "on": on, "columns": options.columns, "config": config, "command": command,
    }  # fmt: skip
    if options.predictions is not None:
        evaluation = evaluate_predictions(options.predictions, gallery=options.gallery, **common)
    else:
        evaluation = evaluate_vectors(
            str(options.embeddings),
            None if options.gallery_embeddings is None else str(options.gallery_embeddings),
            similarity=options.similarity or "cosine",
            crs=options.crs,
            val_share=options.val_share or 0.0,
            temperature=options.temperature,
            **common,
        )
    leakage = None if split is None else split.leakage
    if leakage is None:
        return evaluation, table, None
    # The leakage report of the splits is about pictures; warnings about the embeddings precede its own.
    warnings = [*_embedding_warnings(evaluation.report), *leakage.get("warnings", [])]
    return evaluation, table, {**leakage, "warnings": warnings}


def notes_for_reader(report: Report) -> list[str]:
    """Sentences that a reader needs to interpret the figures."""
    notes = list(report.made_with.get("bridge", {}).get("notes", []))
    missing = report.unanswered
    if missing is not None and missing.n:
        reasons = ", ".join(f"{count} with {reason}" for reason, count in missing.reasons.items())
        notes.append(f"{missing.n:,} of {missing.n_asked:,} queries were not answered ({reasons}).")
    notes += _embedding_warnings(report)
    posterior = report.posterior or {}
    if posterior.get("fitted_on") == "nothing":
        notes.append(
            f"The posterior was not fitted (temperature {posterior['image_temperature']:g}): its probabilities "
            "are not calibrated. Add validation queries (role val), or use --val-share 0.2."
        )
    return notes


def _embedding_warnings(report: Report) -> list[str]:
    """Warnings about leakage that the embeddings of another tool reveal."""
    return list((report.leakage or {}).get("vectors", {}).get("warnings", []))
