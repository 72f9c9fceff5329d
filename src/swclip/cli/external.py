"""What `swclip evaluate` does without a run: predictions or embeddings of another tool."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

if TYPE_CHECKING:
    from swclip.data.manifest import Manifest
    from swclip.data.splits import Splits
    from swclip.evaluation.measure import MeasureConfig
    from swclip.evaluation.report import Report
    from swclip.evaluation.result import Evaluation


@Parameter(name="*")
@dataclass(frozen=True)
class BridgeOptions:
    """What another tool made, in place of a run."""

    predictions: Path | None = None
    "Coordinates that another tool predicted: a CSV, Parquet, GeoParquet or GeoJSON table, one row an answer."
    embeddings: Path | None = None
    "Vectors of another tool with ids, positions, roles: .npz, .parquet, or .npy or .safetensors with a table beside."
    gallery_embeddings: Path | None = None
    "The gallery's vectors, where they are in a file of their own."
    gallery: Path | None = None
    "Positions that the tool of --predictions could name: a table, for the floor and the guesses."
    column: Annotated[list[str] | None, Parameter(negative="")] = None
    "ROLE=NAME: the column that holds a role, if its name does not say so; again for further ones."
    similarity: Literal["cosine", "l2"] | None = None
    "Of --embeddings: cosine (the default), or l2 for Euclidean distance."
    crs: str | None = None
    "Projection of easting and northing beside --embeddings, such as EPSG:32650."
    val_share: float | None = None
    "Share of the queries of --embeddings, in whole blocks, to fit the posterior on; they are then not measured."
    temperature: float | None = None
    "Of the posterior where nothing is fitted, in place of 0.01."

    @property
    def given(self) -> bool:
        """Whether another tool is evaluated at all."""
        return self.predictions is not None or self.embeddings is not None

    def check(self, run: Path | None) -> None:
        """Raise ConfigError unless one thing is evaluated, with the options that are its own."""
        from swclip.errors import ConfigError

        named = {"RUN": run, "--predictions": self.predictions, "--embeddings": self.embeddings}
        told = [name for name, value in named.items() if value is not None]
        if len(told) != 1:
            found = " and ".join(told) if told else "none of them"
            raise ConfigError(f"give one of RUN, --predictions and --embeddings to evaluate, not {found}.")
        owners = {
            "gallery_embeddings": ("--embeddings",),
            "gallery": ("--predictions",),
            "column": ("--predictions", "--embeddings"),
            "similarity": ("--embeddings",),
            "crs": ("--embeddings",),
            "val_share": ("--embeddings",),
            "temperature": ("--embeddings",),
        }
        for name, owner in owners.items():
            if getattr(self, name) is not None and told[0] not in owner:
                raise ConfigError(f"--{name.replace('_', '-')} goes with {' or '.join(owner)}, not with {told[0]}.")

    @property
    def columns(self) -> dict[str, str]:
        """The columns that were named, by role."""
        from swclip.errors import ConfigError

        found: dict[str, str] = {}
        for text in self.column or []:
            role, equals, name = text.partition("=")
            if not equals or not role.strip() or not name.strip():
                raise ConfigError(f"--column {text}: write ROLE=NAME, such as --column predicted_lat=guess_y.")
            found[role.strip()] = name.strip()
        return found


def evaluate_other(
    options: BridgeOptions,
    *,
    manifest: Path | None,
    splits: Path | None,
    on: Literal["query", "val"],
    config: MeasureConfig,
    command: str,
) -> tuple[Evaluation, Manifest | None, dict[str, Any] | None]:
    """Evaluate what another tool made.

    Returns:
        The evaluation; the manifest, where there is one; and the leakage report beside the splits, where there is one.
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
    # The splits' own report knows the pictures; what the vectors give away is said before its warnings.
    told = _vector_warnings(evaluation.report)
    return evaluation, table, {**leakage, "warnings": [*told, *leakage.get("warnings", [])]}


def say_notes(report: Report) -> list[str]:
    """What a person should know before reading the figures."""
    said = list(report.made_with.get("bridge", {}).get("notes", []))
    missing = report.unanswered
    if missing is not None and missing.n:
        reasons = ", ".join(f"{count} with {reason}" for reason, count in missing.reasons.items())
        said.append(f"{missing.n:,} of {missing.n_asked:,} queries were not answered ({reasons}).")
    said += _vector_warnings(report)
    posterior = report.posterior or {}
    if posterior.get("fitted_on") == "nothing":
        said.append(
            f"The posterior was not fitted (temperature {posterior['image_temperature']:g}): its probabilities promise "
            "nothing. Give validation queries (role val), or --val-share 0.2."
        )
    return said


def _vector_warnings(report: Report) -> list[str]:
    """What the vectors of another tool give away about leakage."""
    return list((report.leakage or {}).get("vectors", {}).get("warnings", []))
