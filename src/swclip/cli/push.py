"""`swclip push`: publish a trained model on a model hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from swclip.cli.help import ADVANCED, REPEATED, off


def push(
    run: Path,
    repo_id: str,
    /,
    *,
    report: Annotated[list[Path] | None, REPEATED] = None,
    licence: str | None = None,
    base_model: Annotated[list[str] | None, REPEATED] = None,
    dataset: Annotated[list[str] | None, REPEATED] = None,
    private: bool = False,
    dry_run: Path | None = None,
    revision: Annotated[str | None, ADVANCED] = None,
    message: Annotated[str | None, ADVANCED] = None,
    manifest: Annotated[Path | None, ADVANCED] = None,
    splits: Annotated[Path | None, ADVANCED] = None,
    endpoint: Annotated[str | None, ADVANCED] = None,
    verify: Annotated[bool, ADVANCED, off("--no-verify")] = True,
) -> None:
    """Publish a trained model on a model hub.

    A model card is written from the run and its reports. The model is checked, uploaded as one commit, downloaded
    again and compared. Local paths and names of photographs are not published. The access token is read from
    HF_TOKEN, or from where `hf auth login` stores it. Others load the model with swclip.load("hf://OWNER/NAME").

    Args:
        run: The run's folder, as `swclip train` wrote it.
        repo_id: The repository: OWNER/NAME.
        report: Report of `swclip evaluate` on this run, for the model card; several for several protocols.
        licence: Licence of the model by the hub's identifier, such as apache-2.0. Without one, the card states that
            there is none.
        base_model: Hub name of a tower that was read from a local folder; can be repeated.
        dataset: Hub name of the training data; can be repeated.
        private: Make the repository private; an existing public repository is an error.
        revision: Branch to commit to, created if it does not exist; main by default.
        message: Commit message.
        dry_run: Write the files to this folder and upload nothing; needs no network.
        manifest: Path of the manifest, if it was moved.
        splits: Path of the splits, if they were moved.
        endpoint: Address of the hub; by default HF_ENDPOINT or huggingface.co.
        verify: Do not download the uploaded model to compare it.

    Examples:
        # write the files, upload nothing
        swclip push runs/first ada/leeds --report reports/first --dry-run model
        swclip push runs/first ada/leeds --report reports/first --licence apache-2.0
    """
    import os
    import tempfile

    from swclip.cli.console import console, next_step
    from swclip.errors import ConfigError
    from swclip.hub.folder import PublishOptions, write_model_folder
    from swclip.hub.upload import push_folder
    from swclip.models.download import ENDPOINT_VARIABLE, SCHEME, is_repo_id

    def report_line(text: str) -> None:
        console.print(text, markup=False, soft_wrap=True)

    name = repo_id.removeprefix(SCHEME)
    if not is_repo_id(name):
        raise ConfigError(f"{repo_id!r}: must be OWNER/NAME; name a branch with --revision.")
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
                report_line(f"{tower.side} tower: published as {tower.public_name}")
        for note in folder.notes:
            report_line(f"Note: {note}")
        if dry_run is not None:
            report_line(
                f"{dry_run}: {len(folder.files)} files, {folder.size_bytes / 1e6:,.1f} MB, model {folder.fingerprint}"
            )
            print(dry_run)
            next_step("push", f"read {dry_run / 'README.md'}, then run the command without --dry-run")
            return
        pushed = push_folder(
            folder,
            name,
            private=private,
            revision=revision,
            message=message,
            endpoint=endpoint or os.environ.get(ENDPOINT_VARIABLE) or None,
            verify=verify,
            say=report_line,
        )
    if pushed.removed:
        report_line(f"removed files of an earlier model: {', '.join(pushed.removed)}")
    report_line(f"model {folder.fingerprint}, commit {pushed.commit[:12]}" + ("" if pushed.changed else " (unchanged)"))
    print(pushed.url)
    next_step("push", "swclip", "index", f"{SCHEME}{name}", "MANIFEST", "--out", "gallery")
