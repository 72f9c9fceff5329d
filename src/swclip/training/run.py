"""A run's folder: its record (run.json), and the lock under which it is trained."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from swclip.data.manifest import Manifest, read_manifest
from swclip.data.splits import Splits, read_splits
from swclip.errors import ArtefactError, ConfigError, MismatchError
from swclip.files import read_json, write_json
from swclip.locks import sole_holder
from swclip.structure import as_plain
from swclip.training.config import TrainingConfig, load_recipe, write_config
from swclip.versions import versions


@dataclass(frozen=True)
class RunFacts:
    """The record of a run, run.json.

    Attributes:
        manifest: Path of the manifest.
        manifest_digest: Its identity.
        splits: Path of the splits.
        system: Name of the run in comparisons: that of its recipe.
        seed: Seed.
        status: `running` or `finished`.
        command: The command line, where there was one.
        versions: Versions of swclip and its main dependencies.
        figures: Figures on the validation queries, at the end.
        splits_digest: SHA-256 over ids and their split: the same file may have been written again.
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

    def __repr__(self) -> str:
        validation = self.figures.get("val_posterior")
        told = f", validation median {validation['median_error_m']:,.0f} m" if validation else ""
        return f"RunFacts({self.system}, seed {self.seed}, {self.status}{told}, splits {self.splits})"


def open_run(
    out: Path, config: TrainingConfig, manifest: Manifest, splits: Splits, system: str, command: str | None
) -> RunFacts:
    """Start a run in a folder, or read the record of the one that is there.

    Args:
        out: The run's folder.
        config: Its configuration.
        manifest: The photographs.
        splits: Their splits.
        system: Its name.
        command: The command line.

    Raises:
        ConfigError: The folder holds a run with another configuration, data or splits.
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
    )
    earlier = read_run(out) if (out / "run.json").exists() else None
    # A run that failed before its first step, for want of a tower or a photograph, may start again with other settings.
    if earlier is None or (earlier.status == "running" and not (out / "metrics.jsonl").exists()):
        write_config(out / "config.toml", config)
        write_json(out / "run.json", asdict(facts))
        return facts
    if as_plain(load_recipe(str(out / "config.toml"))) != as_plain(config):
        raise ConfigError(
            f"{out}: holds a run with another configuration; choose another --out, or remove that folder."
        )
    made_from = ("manifest_digest", "splits", "splits_digest")
    if any(getattr(earlier, name) != getattr(facts, name) for name in made_from):
        raise ConfigError(
            f"{out}: holds a run on other photographs or splits; choose another --out, or remove that folder."
        )
    return earlier


def digest_of_splits(splits: Splits) -> str:
    """SHA-256 over ids and their split: the identity of splits, wherever their file is."""
    rows = splits.frame[["image_id", "split"]].to_numpy().tolist()
    return hashlib.sha256(json.dumps(rows, ensure_ascii=False).encode()).hexdigest()


def read_run(folder: str | Path) -> RunFacts:
    """Read RUN/run.json.

    Raises:
        ArtefactError: The folder is not a run.
    """
    path = Path(folder) / "run.json"
    values = read_json(path, "the run's record")
    try:
        return RunFacts(**values)
    except TypeError as error:
        raise ArtefactError(f"{path}: is not the record of a run of this swclip ({error}); train it again.") from error


def read_finished_run(folder: str | Path) -> RunFacts:
    """As `read_run`, of a run that is finished.

    Raises:
        ArtefactError: The folder is not a run, or its training has not ended.
    """
    if not (Path(folder) / "run.json").is_file():
        raise ArtefactError(
            f"{folder}: no run is there (run.json is missing); give what `swclip train ... --out` wrote."
        )
    facts = read_run(folder)
    if facts.status != "finished":
        raise ArtefactError(
            f"{folder}: this run has not finished; give its `swclip train` command again, which resumes it."
        )
    return facts


@contextmanager
def sole_trainer(folder: Path) -> Iterator[None]:
    """Hold a run's folder while it is trained in; of several processes under torchrun the leading one holds it.

    Args:
        folder: The run's folder; created where it is missing.

    Raises:
        ConfigError: Another training holds it.
    """
    if os.environ.get("RANK", "0") != "0":
        yield
        return
    busy = ConfigError(f"{folder}: another process is training in this folder; wait for it, or choose another --out.")
    with sole_holder(folder, busy):
        yield


def data_of_run(
    folder: str | Path,
    facts: RunFacts,
    manifest: Manifest | str | os.PathLike[str] | None = None,
    splits: Splits | str | os.PathLike[str] | None = None,
) -> tuple[Manifest, Splits]:
    """The manifest and the splits of a run, from where it recorded them or from where they are now.

    Args:
        folder: The run's folder.
        facts: Its record.
        manifest: The manifest, or where it is now, if it was moved.
        splits: Other splits of the same manifest, or where they are now.

    Raises:
        ArtefactError: One is not there any more.
        MismatchError: The manifest is not the one that the run was trained on.
    """
    if not isinstance(manifest, Manifest):
        manifest = read_manifest(_where(Path(folder), facts.manifest, "manifest") if manifest is None else manifest)
    if facts.manifest_digest != manifest.digest:
        raise MismatchError(
            f"{manifest.path}: this is not the manifest that {folder} was trained on (digest {manifest.digest[:12]}, "
            f"not {facts.manifest_digest[:12]}): its queries may have been trained on. Give the run's own with "
            "--manifest, or train on this one."
        )
    if not isinstance(splits, Splits):
        splits = read_splits(_where(Path(folder), facts.splits, "splits") if splits is None else splits)
    return manifest, splits


def _where(folder: Path, recorded: str, name: str) -> Path:
    """Where the run recorded an artefact, from here or from the run's folder."""
    for path in (Path(recorded), folder / recorded):
        if path.exists():
            return path
    raise ArtefactError(f"{recorded}: the run's {name} is not there any more; say where it is now with --{name}.")
