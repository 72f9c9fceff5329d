"""`swclip push`: a run's model and its card to a hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

_Several = Parameter(consume_multiple=True, negative="")


def push(
    run: Path,
    repo_id: str,
    /,
    *,
    report: Annotated[list[Path] | None, _Several] = None,
    licence: str | None = None,
    base_model: Annotated[list[str] | None, _Several] = None,
    dataset: Annotated[list[str] | None, _Several] = None,
    private: Annotated[bool, Parameter(negative="")] = False,
    revision: str | None = None,
    message: str | None = None,
    dry_run: Path | None = None,
    manifest: Path | None = None,
    splits: Path | None = None,
    endpoint: str | None = None,
    verify: Annotated[bool, Parameter(negative="--no-verify")] = True,
) -> None:
    """Publish a run's model on a hub, with a card that says what it is, how good it is, and what it is not.

    The model is loaded before it is sent, sent as one commit, downloaded again and compared. Paths of this machine and
    names of photographs are left out. The token is read from HF_TOKEN, or from where `hf auth login` keeps it. Others
    load the model with swclip.load("hf://OWNER/NAME").

    Args:
        run: The folder that `swclip train` wrote.
        repo_id: Where it goes: OWNER/NAME.
        report: A report of `swclip evaluate` on this run, for the card; several for several protocols.
        licence: The model's licence by the hub's identifier, such as apache-2.0; the card says so if there is none.
        base_model: Name on the hub of a tower that was read from a local folder; again for further ones.
        dataset: Name on the hub of what the model was trained on; again for further ones.
        private: Make the repository private; one that is there and public is refused.
        revision: Branch to commit to, made if it is not there; main if not given.
        message: Of the commit.
        dry_run: Write what would be sent into this folder, and send nothing; no network is needed.
        manifest: Where the manifest is now, if it was moved.
        splits: Where the splits are now, if they were moved.
        endpoint: Address of the hub; HF_ENDPOINT or huggingface.co if not given.
        verify: Download what was sent and compare; --no-verify leaves it out.
    """
    import os
    import tempfile

    from swclip.cli.console import console
    from swclip.errors import ConfigError
    from swclip.hub.folder import PublishOptions, write_model_folder
    from swclip.hub.upload import push_folder
    from swclip.models.download import ENDPOINT_VARIABLE, SCHEME, is_repo_id

    def say(text: str) -> None:
        console.print(text, markup=False, soft_wrap=True)

    name = repo_id.removeprefix(SCHEME)
    if not is_repo_id(name):
        raise ConfigError(f"{repo_id!r}: give the repository as OWNER/NAME, and a branch with --revision.")
    options = PublishOptions(
        reports=report or (),
        licence=licence,
        base_models=base_model or (),
        datasets=dataset or (),
        manifest=manifest,
        splits=splits,
    )
    with tempfile.TemporaryDirectory(prefix="swclip-push-") as temporary:
        folder = write_model_folder(dry_run or Path(temporary) / "model", run, name, options)
        for tower in folder.towers:
            if tower.origin != "built in":
                say(f"{tower.side} tower: published as {tower.public_name}")
        for note in folder.notes:
            say(f"Note: {note}")
        if dry_run is not None:
            say(f"{dry_run}: {len(folder.files)} files, {folder.size_bytes / 1e6:,.1f} MB, model {folder.fingerprint}")
            print(dry_run)
            return
        pushed = push_folder(
            folder,
            name,
            private=private,
            revision=revision,
            message=message,
            endpoint=endpoint or os.environ.get(ENDPOINT_VARIABLE) or None,
            verify=verify,
            say=say,
        )
    if pushed.removed:
        say(f"removed, of an earlier model: {', '.join(pushed.removed)}")
    say(f"model {folder.fingerprint}, commit {pushed.commit[:12]}" + ("" if pushed.changed else ", as it was before"))
    say(f'Load it with: swclip.load("{SCHEME}{name}")')
    print(pushed.url)
