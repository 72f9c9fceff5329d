"""Objects from arguments that are objects or paths."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from swclip.calibration.conformal import Calibration
    from swclip.calibration.posterior_config import PosteriorConfig
    from swclip.data.manifest import Manifest
    from swclip.data.splits import Splits
    from swclip.gallery.hubness import Bank
    from swclip.models.locator_model import LocatorModel
    from swclip.training.run import RunFacts

PathLike = str | os.PathLike[str]


def as_manifest(manifest: Manifest | PathLike) -> Manifest:
    """The manifest; a path is read."""
    from swclip.data.manifest import read_manifest

    return read_manifest(manifest) if isinstance(manifest, (str, os.PathLike)) else manifest


def as_splits(splits: Splits | PathLike) -> Splits:
    """The splits; a path is read."""
    from swclip.data.splits import read_splits

    return read_splits(splits) if isinstance(splits, (str, os.PathLike)) else splits


def saved_splits(splits: Splits | PathLike, folder: Path) -> Splits:
    """Splits with a file: splits in memory are written to the output folder.

    Raises:
        ConfigError: The folder contains other splits.
    """
    from dataclasses import replace

    from swclip.data.splits import leakage_path, read_splits, write_splits
    from swclip.errors import ConfigError
    from swclip.files import write_json

    loaded = as_splits(splits)
    if not loaded.in_memory:
        return loaded
    target = folder / "splits.parquet"
    if target.is_file():
        existing = read_splits(target)
        same = existing.meta == loaded.meta and existing.frame[["image_id", "split"]].equals(
            loaded.frame[["image_id", "split"]]
        )
        if same:
            return existing
        raise ConfigError(
            f"{target}: contains other splits than those in memory; choose another folder, or remove the file."
        )
    written = write_splits(target, loaded.frame, loaded.candidates, loaded.meta)
    if loaded.leakage is not None:
        write_json(leakage_path(target), loaded.leakage)
    return replace(written, leakage=loaded.leakage)


@dataclass(frozen=True)
class FittedModel:
    """A model with its posterior and calibration, fitted on validation queries.

    Attributes:
        model: The model.
        posterior: Converts scores to probabilities; None where it was not fitted.
        calibration: Calibration of the prediction regions; None where there is none.
        bank: Photographs with which hubness is measured; None where the posterior needs none.
        run: The folder of the model's run; None where there is none.
    """

    model: LocatorModel
    posterior: PosteriorConfig | None = None
    calibration: Calibration | None = None
    bank: Bank | None = None
    run: Path | None = None

    @property
    def verifies(self) -> bool:
        """Whether answers gain by patch features: whether the posterior was fitted with verification by them."""
        posterior = self.posterior
        return posterior is not None and posterior.verified_candidates > 0 and posterior.matcher is None

    @property
    def facts(self) -> RunFacts | None:
        """The record of the finished run; None without a run.

        Raises:
            ArtefactError: The run has not finished.
        """
        from swclip.training.run import read_finished_run

        return None if self.run is None else read_finished_run(self.run)


def as_fitted(model: LocatorModel | PathLike) -> FittedModel:
    """A model from an object, run, folder or hub name, with its posterior and calibration.

    The files beside a loaded model belong to its weights: if the weights were changed since, they are ignored.

    Raises:
        ArtefactError: The model does not exist.
        HubError: The hub cannot be reached, or has no such model.
    """
    from swclip.calibration.conformal import read_calibration
    from swclip.calibration.posterior_config import read_posterior
    from swclip.files import read_json
    from swclip.gallery.hubness import read_bank
    from swclip.models.locator_model import load_model

    loaded = load_model(model) if isinstance(model, (str, os.PathLike)) else model
    folder = loaded.folder
    if folder is None or not (folder / "config.json").is_file():
        return FittedModel(loaded)
    saved = read_json(folder / "config.json", "the model's configuration")
    if loaded is model and saved.get("fingerprint") != loaded.fingerprint:
        return FittedModel(loaded)
    run = folder.parent if (folder.parent / "run.json").is_file() else None
    return FittedModel(loaded, read_posterior(folder), read_calibration(folder), read_bank(folder), run)
