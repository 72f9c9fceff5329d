"""Where a function takes an object or its path: the object."""

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
    """A manifest, read where it is a path."""
    from swclip.data.manifest import read_manifest

    return read_manifest(manifest) if isinstance(manifest, (str, os.PathLike)) else manifest


def as_splits(splits: Splits | PathLike) -> Splits:
    """Splits, read where they are a path."""
    from swclip.data.splits import read_splits

    return read_splits(splits) if isinstance(splits, (str, os.PathLike)) else splits


def kept_splits(splits: Splits | PathLike, folder: Path) -> Splits:
    """Splits that are in a file: those in memory are written into the folder of what is made with them.

    Raises:
        ConfigError: The folder has other splits of its own.
    """
    from dataclasses import replace

    from swclip.data.splits import leakage_path, read_splits, write_splits
    from swclip.errors import ConfigError
    from swclip.files import write_json

    held = as_splits(splits)
    if not held.in_memory:
        return held
    target = folder / "splits.parquet"
    if target.is_file():
        there = read_splits(target)
        same = there.meta == held.meta and there.frame[["image_id", "split"]].equals(held.frame[["image_id", "split"]])
        if same:
            return there
        raise ConfigError(
            f"{target}: other splits are there than those in memory; choose another folder, or remove that one."
        )
    written = write_splits(target, held.frame, held.candidates, held.meta)
    if held.leakage is not None:
        write_json(leakage_path(target), held.leakage)
    return replace(written, leakage=held.leakage)


@dataclass(frozen=True)
class FittedModel:
    """A model with what was fitted for it on validation queries.

    Attributes:
        model: The model.
        posterior: From scores to probabilities; None where it was not fitted.
        calibration: Of the regions of answers; None where there is none.
        bank: Photographs that hubness is measured with; None where the posterior needs none.
        run: The folder of the run that made it; None where there is none.
    """

    model: LocatorModel
    posterior: PosteriorConfig | None = None
    calibration: Calibration | None = None
    bank: Bank | None = None
    run: Path | None = None

    @property
    def facts(self) -> RunFacts | None:
        """The record of the finished run; None where there is no run.

        Raises:
            ArtefactError: The run has not finished.
        """
        from swclip.training.run import read_finished_run

        return None if self.run is None else read_finished_run(self.run)


def as_fitted(model: LocatorModel | PathLike) -> FittedModel:
    """A model by object, run, folder or name on the hub, with what was fitted for it.

    What lies beside a loaded model belongs to its weights: where they were changed since, it is left out.

    Raises:
        ArtefactError: No model is there.
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
