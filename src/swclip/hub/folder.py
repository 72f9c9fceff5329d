"""A model as a folder to be published: what it is made of, checked, and without the names of this machine."""

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
from swclip.hub.provenance import Tower, hide_paths, renamed, towers_of, training_data
from swclip.models.download import is_repo_id
from swclip.models.locator_model import LocatorModel, load_model
from swclip.training.config import load_recipe, write_config
from swclip.training.run import read_finished_run

CARD_NAME = "README.md"
CONFIG_NAME = "config.toml"
_MARKER = "config.json"


@dataclass(frozen=True)
class PublishOptions:
    """What a person says about a model that its run does not know.

    Attributes:
        reports: Reports of `swclip evaluate`, for the card.
        licence: Identifier of the model's licence, such as apache-2.0; None states none.
        base_models: Names on the hub of towers that were given as local folders.
        datasets: Names on the hub of what it was trained on.
        manifest: Where the manifest is now, if it was moved.
        splits: Where the splits are now, if they were moved.
    """

    reports: Sequence[str | os.PathLike[str]] = ()
    licence: str | None = None
    base_models: Sequence[str] = ()
    datasets: Sequence[str] = ()
    manifest: Path | None = None
    splits: Path | None = None


@dataclass(frozen=True)
class ModelFolder:
    """A folder that is ready to be published.

    Attributes:
        path: Where it is.
        fingerprint: Of the model in it.
        of_run: Of the model in the run; another one where a tower's path had to be replaced.
        towers: What the model was initialised from, and under which name that is published.
        notes: What a person should know before others see it.
    """

    path: Path
    fingerprint: str
    of_run: str
    towers: tuple[Tower, ...]
    notes: tuple[str, ...]

    @property
    def files(self) -> list[str]:
        """Names relative to the folder, in order."""
        return sorted(path.relative_to(self.path).as_posix() for path in self.path.rglob("*") if path.is_file())

    @property
    def size_bytes(self) -> int:
        """Bytes of all of them."""
        return sum((self.path / name).stat().st_size for name in self.files)


def write_model_folder(
    out: str | os.PathLike[str], run: str | os.PathLike[str], repo_id: str, options: PublishOptions | None = None
) -> ModelFolder:
    """Write the folder of a model with its card; no network is asked.

    In the root: README.md, config.json, preprocess.json, model.safetensors, config.toml, and where the run has them
    posterior.json, regions.json, bank.safetensors, tokenizer/ and caption_tokenizer/. Paths of local towers are
    replaced, and names of photographs by digests; what is written is searched for names of this machine.

    Args:
        out: The folder; one that is there with a model in it is replaced whole.
        run: The folder of a finished run.
        repo_id: owner/name, for the card.
        options: What a person says about it.

    Raises:
        ArtefactError: The run is not finished, damaged, or a name of this machine would be published.
        MismatchError: A report is about another model, or the manifest is another one.
        ConfigError: The licence or a name cannot be one.
        InputError: `out` holds something else.
    """
    options = options or PublishOptions()
    source, target = Path(run), Path(out)
    _check_options(options)
    facts = read_finished_run(source)
    model = _verified(source)
    reports = [read_model_report(path, model.fingerprint) for path in options.reports]
    config = load_recipe(str(source / CONFIG_NAME))
    of_run = model.fingerprint
    towers = towers_of(model, [source, Path(facts.manifest)])
    hide_paths(model, towers)
    config = dataclasses.replace(config, model=renamed(config.model, {tower.given: tower.shown for tower in towers}))
    bank, calibration, posterior = read_bank(source), read_calibration(source), read_posterior(source)
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
    local = [tower.given for tower in towers if tower.origin == "local folder"]
    names = private_names(source, facts.manifest, facts.splits, *local)
    with atomic_folder(target, _MARKER) as beside:
        model.save(beside)
        if posterior is not None:
            write_posterior(beside, posterior)
        if calibration is not None:
            write_calibration(beside, calibration)
        if bank is not None:
            write_bank(beside, bank.without_names())
        write_config(beside / CONFIG_NAME, config)
        with atomic_file(beside / CARD_NAME) as file:
            file.write_text(text, encoding="utf-8")
        check_no_leaks(beside, names)
        check_folder(beside, model.fingerprint)
    notes = tuple(_notes(options, data is None, of_run != model.fingerprint, bank is not None))
    return ModelFolder(target, model.fingerprint, of_run, tuple(towers), notes)


def check_folder(folder: Path, fingerprint: str) -> None:
    """Load what is published, or was downloaded again, as a stranger would.

    Args:
        folder: The folder.
        fingerprint: The model that it must hold.

    Raises:
        ArtefactError: A file cannot be read, or another model is in it.
    """
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, framework="numpy") as stream:
                stream.keys()
        except (OSError, SafetensorError) as error:
            raise ArtefactError(f"{path}: cannot be read as safetensors ({error}); publish it again.") from error
    for read in (read_posterior, read_calibration, read_bank):
        read(folder)
    found = load_model(folder).fingerprint
    if found != fingerprint:
        raise ArtefactError(f"{folder}: holds model {found}, and {fingerprint} was to be published; publish it again.")


def _verified(run: Path) -> LocatorModel:
    """The model of a run, if its weights are those that were saved."""
    model = load_model(run)
    stated = read_json(run / "model" / "config.json", "the model's configuration").get("fingerprint")
    if stated != model.fingerprint:
        raise ArtefactError(
            f"{run / 'model'}: config.json states fingerprint {stated}, and the weights make it {model.fingerprint}: a "
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
            "The card does not say what the model was trained on: the run's manifest or splits are not there, or were "
            "changed; say where they are with --manifest and --splits."
        )
    if changed:
        yield (
            "A tower was a local folder; its path is not published, which changes the fingerprint: galleries made with "
            "the run do not go with the published model. Name what it is with --base-model."
        )
    if bank:
        yield "bank.safetensors holds embeddings of training photographs, with digests in place of their names."


_SHORTEST = 4
"""Names shorter than this ("/", "/me") would be found everywhere by chance."""


def private_names(*places: str | os.PathLike[str]) -> list[str]:
    """What must not be in what is published: paths as they are and resolved, home and working folder, the token.

    Args:
        places: Files and folders that the model was made from.
    """
    from huggingface_hub import get_token

    found: dict[str, None] = {}
    paths = [Path(place) for place in places]
    for path in (*paths, *(path.parent for path in paths if path.is_absolute()), Path.cwd(), Path.home()):
        found[str(path)] = found[str(path.resolve())] = None
    if token := get_token():
        found[token] = None
    return [name for name in found if len(name) >= _SHORTEST and (os.sep in name or name == token)]


def check_no_leaks(folder: Path, names: Iterable[str]) -> None:
    """Refuse a folder in which a file's bytes, or its name, hold one of some names.

    Args:
        folder: What is to be published.
        names: As `private_names` gives them.

    Raises:
        ArtefactError: One does. The name itself is not repeated: it may be a token.
    """
    wanted = {form for name in names for form in (name.encode(), json.dumps(name)[1:-1].encode())}
    for path in sorted(folder.rglob("*")):
        if not path.is_file():
            continue
        text = _text(path)
        if any(name in text or name in path.name.encode() for name in wanted):
            raise ArtefactError(
                f"{path.relative_to(folder)}: would publish a path of this machine, or a token; nothing was published. "
                "Look at the run's config.toml and model/config.json for it."
            )


def _text(path: Path) -> bytes:
    """What of a file may hold names: all of it, of safetensors the header. Numbers hold any four bytes by chance."""
    with path.open("rb") as stream:
        if path.suffix == ".safetensors":
            return stream.read(int.from_bytes(stream.read(8), "little"))
        return stream.read()
