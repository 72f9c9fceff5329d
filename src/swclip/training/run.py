"""The folder of a run: its record (run.json), and its lock during training."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import TypeAdapter, ValidationError

from swclip.data.manifest import Manifest, read_manifest
from swclip.data.splits import Splits, read_splits
from swclip.errors import ArtefactError, ConfigError, MismatchError
from swclip.files import read_json, write_json
from swclip.imaging.packed import is_pack
from swclip.locks import sole_holder
from swclip.structure import as_plain
from swclip.training.config import TrainingConfig, load_recipe, write_config
from swclip.versions import versions

_ROWS_AT_ONCE = 65_536


@dataclass(frozen=True)
class RunFacts:
    """The record of a run, run.json.

    Attributes:
        manifest: Path of the manifest.
        manifest_digest: Digest of the manifest.
        splits: Path of the splits.
        system: Name of the run in comparisons: that of its recipe.
        seed: Seed of the run.
        status: `running` or `finished`.
        command: The command line, if any.
        versions: Versions of swclip and its main dependencies.
        figures: Figures on the validation queries, at the end.
        splits_digest: SHA-256 over ids and their split, since the same file may have been rewritten.
        candidates_digest: SHA-256 over the candidates of the splits; empty in runs of swclip 0.1.
    """

    manifest: str
    manifest_digest: str
    splits: str
    system: str
    seed: int
    status: str
    command: str | None = None
    versions: dict[str, str] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)
    splits_digest: str = ""
    candidates_digest: str = ""

    def __repr__(self) -> str:
        validation = self.figures.get("val_posterior")
        median = f", validation median {validation['median_error_m']:,.0f} m" if validation else ""
        return f"RunFacts({self.system}, seed {self.seed}, {self.status}{median}, splits {self.splits})"


def open_run(
    out: Path, config: TrainingConfig, manifest: Manifest, splits: Splits, system: str, command: str | None
) -> RunFacts:
    """Start a run in a folder, or read the record of the existing one.

    Photographs and splits are compared by their content, so that a run resumes where its folder or theirs was moved or
    copied; the record then has the new paths.

    Args:
        out: The run's folder.
        config: Its configuration.
        manifest: The photographs.
        splits: Their splits.
        system: Name of the run in comparisons.
        command: The command line, for the record.

    Raises:
        ConfigError: The folder contains a run with another configuration, data or splits.
    """
    facts = RunFacts(
        manifest=str(manifest.path.resolve()),
        manifest_digest=manifest.digest,
        splits=str(splits.path.resolve()),
        system=system,
        seed=config.seed,
        status="running",
        command=command,
        versions=versions(),
        splits_digest=digest_of_splits(splits),
        candidates_digest=digest_of_candidates(splits),
    )
    earlier = read_run(out) if (out / "run.json").exists() else None
    # A run that failed before its first step, such as without its tower, may start again with other settings.
    if earlier is None or (earlier.status == "running" and not (out / "metrics.jsonl").exists()):
        write_config(out / "config.toml", config)
        write_json(out / "run.json", asdict(facts))
        return facts
    if as_plain(load_recipe(str(out / "config.toml"))) != as_plain(config):
        raise ConfigError(
            f"{out}: contains a run with another configuration; choose another --out, or remove that folder."
        )
    made_from = ["manifest_digest", "splits_digest", *(["candidates_digest"] if earlier.candidates_digest else [])]
    if any(getattr(earlier, name) != getattr(facts, name) for name in made_from):
        raise ConfigError(
            f"{out}: contains a run on other photographs or splits; choose another --out, or remove that folder."
        )
    here = replace(earlier, manifest=facts.manifest, splits=facts.splits)
    if here != earlier:
        write_json(out / "run.json", asdict(here))
    return here


def digest_of_splits(splits: Splits) -> str:
    """SHA-256 over ids and their split: the identity of splits, independent of their file."""
    return _digest(splits.frame[["image_id", "split"]])


def digest_of_candidates(splits: Splits) -> str:
    """SHA-256 over the candidates of splits, with their photographs and the queries that they are for."""
    return _digest(splits.candidates[["candidate_id", "lat_deg", "lon_deg", "image_ids", "for_val", "for_query"]])


def _digest(table: pd.DataFrame) -> str:
    """SHA-256 of the rows as JSON, some at a time: the text of ten million would take a gigabyte."""
    hashed = hashlib.sha256(b"[")
    for start in range(0, len(table), _ROWS_AT_ONCE):
        rows = table.iloc[start : start + _ROWS_AT_ONCE].to_numpy(dtype=object).tolist()
        hashed.update((", " * (start > 0) + json.dumps(rows, ensure_ascii=False)[1:-1]).encode())
    hashed.update(b"]")
    return hashed.hexdigest()


def read_run(folder: str | Path) -> RunFacts:
    """Read RUN/run.json.

    Raises:
        ArtefactError: The folder is not a run.
    """
    path = Path(folder) / "run.json"
    values = read_json(path, "the run's record")
    try:
        facts = RunFacts(**values)
        TypeAdapter(RunFacts).validate_python(asdict(facts))
    except (TypeError, ValidationError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ArtefactError(f"{path}: is not the record of a run of this swclip ({reason}); train it again.") from error
    return facts


def read_finished_run(folder: str | Path) -> RunFacts:
    """Read RUN/run.json of a finished run.

    Raises:
        ArtefactError: The folder is not a run, or its training is not finished.
    """
    if not (Path(folder) / "run.json").is_file():
        raise ArtefactError(
            f"{folder}: is not a run (run.json is missing); give the folder that `swclip train ... --out` wrote."
        )
    facts = read_run(folder)
    if facts.status != "finished":
        raise ArtefactError(
            f"{folder}: this run has not finished; repeat its `swclip train` command, which resumes it."
        )
    return facts


@contextmanager
def sole_trainer(folder: Path) -> Iterator[None]:
    """Lock a run's folder during training.

    Args:
        folder: The run's folder; created where it is missing.

    Raises:
        ConfigError: Another training has the lock.
    """
    busy = ConfigError(f"{folder}: another process is training in this folder; wait for it, or choose another --out.")
    with sole_holder(folder, busy):
        yield


def data_of_run(
    folder: str | Path,
    facts: RunFacts,
    manifest: Manifest | str | os.PathLike[str] | None = None,
    splits: Splits | str | os.PathLike[str] | None = None,
) -> tuple[Manifest, Splits]:
    """The manifest and the splits of a run.

    Args:
        folder: The run's folder.
        facts: Its record.
        manifest: The manifest, or its path; None for the recorded path.
        splits: The splits, others of the same manifest, or their path; None for the recorded path.

    Raises:
        ArtefactError: A recorded path does not exist any more.
        MismatchError: The manifest is not the one that the run was trained on.
    """
    if not isinstance(manifest, Manifest):
        manifest = read_manifest(_where(Path(folder), facts.manifest, "manifest") if manifest is None else manifest)
    if facts.manifest_digest != manifest.digest:
        raise MismatchError(
            f"{manifest.path}: this is not the manifest that {folder} was trained on (digest {manifest.digest[:12]}, "
            f"not {facts.manifest_digest[:12]}): its queries may have been trained on. Give the run's manifest "
            "with --manifest, or train on this one."
        )
    if not isinstance(splits, Splits):
        splits = read_splits(_where(Path(folder), facts.splits, "splits") if splits is None else splits)
    return manifest, splits


def _where(folder: Path, recorded: str, name: str) -> Path:
    """The recorded path of an artefact, relative to the working directory or to the run's folder."""
    for path in (Path(recorded), folder / recorded):
        if path.exists() or is_pack(path):
            return path
    raise ArtefactError(f"{recorded}: the run's {name} does not exist any more; give its path with --{name}.")
