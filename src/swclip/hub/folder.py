"""The folder of a published model: its files, verified and without local paths."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

from swclip.calibration.conformal import read_calibration, write_calibration
from swclip.calibration.posterior_config import read_posterior, write_posterior
from swclip.errors import ArtefactError, ConfigError
from swclip.files import atomic_file, atomic_folder, read_json
from swclip.gallery.hubness import read_bank, write_bank
from swclip.hub.card import CardFacts, model_card
from swclip.hub.evaluations import read_model_report
from swclip.hub.provenance import Tower, hide_paths, towers_of, training_data, with_tower_names
from swclip.models.download import is_repo_id
from swclip.models.locator_model import LocatorModel, load_model
from swclip.training.config import load_recipe, write_config
from swclip.training.run import read_finished_run

CARD_NAME = "README.md"
CONFIG_NAME = "config.toml"
_MARKER = "config.json"


@dataclass(frozen=True)
class PublishOptions:
    """Facts about a model that its run does not record.

    Attributes:
        reports: Reports of `swclip evaluate`, for the card.
        licence: Identifier of the model's licence, such as apache-2.0; None to state none.
        base_models: Hub names of towers that were read from local folders.
        datasets: Hub names of training data sets.
        manifest: Path of the manifest, if it was moved after training.
        splits: Path of the splits, if they were moved after training.
    """

    reports: Sequence[str | os.PathLike[str]] = ()
    licence: str | None = None
    base_models: Sequence[str] = ()
    datasets: Sequence[str] = ()
    manifest: Path | None = None
    splits: Path | None = None


@dataclass(frozen=True)
class ModelFolder:
    """A model folder that is ready to be published.

    Attributes:
        path: Path of the folder.
        fingerprint: Fingerprint of the published model.
        run_fingerprint: Fingerprint of the model in the run; it differs if the path of a tower was replaced.
        towers: Pretrained towers of the model, with their published names.
        notes: Remarks for the publisher.
    """

    path: Path
    fingerprint: str
    run_fingerprint: str
    towers: tuple[Tower, ...]
    notes: tuple[str, ...]

    @property
    def files(self) -> list[str]:
        """Sorted names of all files, relative to the folder."""
        return sorted(path.relative_to(self.path).as_posix() for path in self.path.rglob("*") if path.is_file())

    @property
    def size_bytes(self) -> int:
        """Total size of the files in bytes."""
        return sum((self.path / name).stat().st_size for name in self.files)


def write_model_folder(
    out: str | os.PathLike[str], run: str | os.PathLike[str], repo_id: str, options: PublishOptions | None = None
) -> ModelFolder:
    """Write the folder of a model with its card, without network access.

    The folder contains README.md, config.json, preprocess.json, model.safetensors, config.toml, and if the run has
    them, whitening.safetensors, novelty.safetensors, patches.safetensors, posterior.json, regions.json,
    bank.safetensors, tokenizer/ and caption_tokenizer/. Paths of local towers are replaced, and names of photographs
    are replaced by digests. Finally all files are searched for local paths.

    Args:
        out: The folder; an existing model folder is replaced completely.
        run: The folder of a finished run.
        repo_id: Repository owner/name, for the card.
        options: Facts that the run does not record.

    Raises:
        ArtefactError: The run is not finished or damaged, or a local path would be published.
        MismatchError: A report evaluates another model, or the manifest is not that of the run.
        ConfigError: The licence or a hub name is invalid.
        InputError: `out` contains other files.
    """
    options = options or PublishOptions()
    source, target = Path(run), Path(out)
    _check_options(options)
    facts = read_finished_run(source)
    model = _verified(source)
    reports = [read_model_report(path, model.fingerprint) for path in options.reports]
    config = load_recipe(str(source / CONFIG_NAME))
    run_fingerprint = model.fingerprint
    towers = towers_of(model, [source, Path(facts.manifest)])
    hide_paths(model, towers)
    config = dataclasses.replace(
        config, model=with_tower_names(config.model, {tower.name: tower.public_name for tower in towers})
    )
    bank, calibration, posterior = read_bank(source), read_calibration(source), read_posterior(source)
    verification = dataclasses.replace(config.verification, matcher=_public_name(config.verification.matcher))
    config = dataclasses.replace(config, verification=verification)
    if posterior is not None:
        posterior = dataclasses.replace(posterior, matcher=_public_name(posterior.matcher))
    data = training_data(facts, source, options.manifest, options.splits)
    card = CardFacts(
        repo_id=repo_id,
        fingerprint=model.fingerprint,
        facts=facts,
        config=config,
        towers=towers,
        data=data,
        reports=reports,
        licence=options.licence,
        base_models=options.base_models,
        datasets=options.datasets,
        bank=0 if bank is None else len(bank.image_ids),
        cells=len(model.location.cells.cells) if model.location.cells else 0,
        regions=calibration is not None,
    )
    text = model_card(card)
    local = [tower.name for tower in towers if tower.origin == "local folder"]
    names = private_names(source, facts.manifest, facts.splits, *local)
    with atomic_folder(target, _MARKER) as temporary:
        model.save(temporary)
        if posterior is not None:
            write_posterior(temporary, posterior)
        if calibration is not None:
            write_calibration(temporary, calibration)
        if bank is not None:
            write_bank(temporary, bank.without_names())
        write_config(temporary / CONFIG_NAME, config)
        with atomic_file(temporary / CARD_NAME) as file:
            file.write_text(text, encoding="utf-8")
        check_no_leaks(temporary, names)
        check_folder(temporary, model.fingerprint)
    notes = tuple(_notes(options, data is None, run_fingerprint != model.fingerprint, bank is not None))
    return ModelFolder(target, model.fingerprint, run_fingerprint, tuple(towers), notes)


def _public_name(matcher: str | None) -> str | None:
    """The name of a keypoint matcher, of a local folder without the path to it."""
    return Path(matcher).resolve().name if matcher is not None and Path(matcher).is_dir() else matcher


def check_folder(folder: Path, fingerprint: str) -> None:
    """Check that a published folder can be loaded.

    Args:
        folder: The folder.
        fingerprint: Expected fingerprint of the model.

    Raises:
        ArtefactError: A file cannot be read, or the folder has another model.
    """
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, framework="numpy") as stream:
                stream.keys()
        except (OSError, SafetensorError) as error:
            raise ArtefactError(f"{path}: cannot be read as safetensors ({error}); publish it again.") from error
    for read in (read_posterior, read_calibration, read_bank):
        read(folder)
    loaded = load_model(folder).fingerprint
    if loaded != fingerprint:
        raise ArtefactError(f"{folder}: has model {loaded} instead of {fingerprint}; publish it again.")


def _verified(run: Path) -> LocatorModel:
    """Load the model of a run and check that its weights match its recorded fingerprint."""
    model = load_model(run)
    stated = read_json(run / "model" / "config.json", "the model's configuration").get("fingerprint")
    if stated != model.fingerprint:
        raise ArtefactError(
            f"{run / 'model'}: config.json states fingerprint {stated}, but the weights have {model.fingerprint}: a "
            "file was changed after training. Copy or train the run again."
        )
    return model


def _check_options(options: PublishOptions) -> None:
    if options.licence is not None and not re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", options.licence):
        raise ConfigError(
            f"licence {options.licence!r}: give the hub's identifier, such as apache-2.0, cc-by-sa-4.0 or other."
        )
    for kind, names in (("base model", options.base_models), ("dataset", options.datasets)):
        for name in names:
            if not is_repo_id(name):
                raise ConfigError(f"{kind} {name!r}: give its name on the hub, OWNER/NAME.")


def _notes(options: PublishOptions, no_data: bool, changed: bool, bank: bool) -> Iterator[str]:
    if options.licence is None:
        yield "No licence is stated, and the card says so; state one with --licence."
    if not options.reports:
        yield "The card says that the model was not evaluated; give a report of `swclip evaluate` with --report."
    if no_data:
        yield (
            "The card does not describe the training data: the run's manifest or splits are missing or were changed; "
            "give their paths with --manifest and --splits."
        )
    if changed:
        yield (
            "A tower was read from a local folder; its path is not published, which changes the fingerprint: galleries "
            "made with the run cannot be used with the published model. Name the tower with --base-model."
        )
    if bank:
        yield "bank.safetensors contains embeddings of training photographs, with digests instead of their names."


_MIN_LENGTH = 4
"""Shorter names ("/", "/me") would match by chance."""


def private_names(*sources: str | os.PathLike[str]) -> list[str]:
    """List the strings that must not be published: paths (as given and resolved), home and working folder, the token.

    Args:
        sources: Files and folders that the model was made from.
    """
    from huggingface_hub import get_token

    names: dict[str, None] = {}
    paths = [Path(source) for source in sources]
    for path in (*paths, *(path.parent for path in paths if path.is_absolute()), Path.cwd(), Path.home()):
        names[str(path)] = names[str(path.resolve())] = None
    if token := get_token():
        names[token] = None
    return [name for name in names if len(name) >= _MIN_LENGTH and (os.sep in name or name == token)]


def check_no_leaks(folder: Path, names: Iterable[str]) -> None:
    """Check that no file, by content or name, contains a private name.

    Args:
        folder: The folder to be published.
        names: Private names; see `private_names`.

    Raises:
        ArtefactError: A file contains a private name. The message does not repeat it, because it may be a token.
    """
    patterns = {form for name in names for form in (name.encode(), json.dumps(name)[1:-1].encode())}
    for path in sorted(folder.rglob("*")):
        if not path.is_file():
            continue
        text = _text(path)
        if any(name in text or name in path.name.encode() for name in patterns):
            raise ArtefactError(
                f"{path.relative_to(folder)}: would publish a local path or a token; nothing was published. "
                "Check the run's config.toml and model/config.json."
            )


def _text(path: Path) -> bytes:
    """Return the part of a file that may contain names: of safetensors the header, because weights match by chance."""
    with path.open("rb") as stream:
        if path.suffix == ".safetensors":
            return stream.read(int.from_bytes(stream.read(8), "little"))
        return stream.read()
