"""`swclip export`: a model as ONNX, or a gallery's embeddings as one file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from swclip.errors import ArtefactError, ConfigError, InputError

_CHECKED_ON = 16


def export(
    source: Path,
    /,
    *,
    out: Path,
    embeddings: Literal["float32", "int8"] | None = None,
    location: bool = False,
    word: list[str] | None = None,
    photographs: Annotated[list[str] | None, Parameter(consume_multiple=True)] = None,
    opset: int = 18,
) -> None:
    """Write a model as ONNX graphs, for programs without swclip; or the embeddings of a gallery.

    The graphs are run in onnxruntime and compared with the model on photographs. Where any number of an embedding
    differs by more than 1e-4 nothing is written.

    Args:
        source: A run, a gallery, or a model folder.
        out: The folder of the graphs, with preprocess.json, parity.json and a README that shows their use; or, with
            --embeddings, the safetensors file.
        embeddings: Write the embeddings of the gallery SOURCE, and nothing else: float32 as they are, or int8, a
            quarter of the bytes.
        location: Write the location side too, for positions that no gallery holds.
        word: A word of the location side's prompt that is the same for all positions, such as city=Leeds; again for
            further ones.
        photographs: Photographs, or folders of them, to compare on; sixteen of the manifest that SOURCE was made from
            if not given.
        opset: Version of the ONNX operators.
    """
    if embeddings is not None:
        if location or word or photographs:
            raise ConfigError("--embeddings writes a gallery's embeddings alone; leave the options of graphs out.")
        _write_embeddings(source, out, embeddings)
        return
    words = _words(word or [])
    if words and not location:
        raise ConfigError("--word is for the location side; give --location too, or leave it out.")

    from swclip.cli.console import console
    from swclip.export.folder import check_output, export_model
    from swclip.models.locator_model import load_model

    check_output(out)
    model = load_model(source)
    paths = _named(photographs) if photographs else _of_manifest(source)
    with console.status("exporting") as status:
        found = export_model(
            model,
            out,
            paths,
            location=location,
            words=words,
            opset=opset,
            report=lambda what: status.update(what),
        )
    for name, graph in found["graphs"].items():
        own = found["parity"][name]
        console.print(
            f"{out / name}: {graph['bytes'] / 1e6:.1f} MB, differs from the model by {own['largest_difference']:.1e} "
            f"at most (least cosine {own['least_cosine']:.6f}, {own['inputs']} inputs)",
            markup=False,
            soft_wrap=True,  # paths stay whole
        )


def _write_embeddings(source: Path, out: Path, precision: Literal["float32", "int8"]) -> None:
    from swclip.cli.console import console
    from swclip.export.embeddings import write_embeddings
    from swclip.gallery.read_write import load_gallery

    if out.is_dir():
        raise InputError(f"{out}: is a folder; with --embeddings, --out is a file such as gallery.safetensors.")
    gallery = load_gallery(source)
    error = write_embeddings(out, gallery, precision)
    console.print(
        f"{out}: {len(gallery)} candidates, {len(gallery.image_ids)} photographs, {out.stat().st_size / 1e6:.1f} MB; "
        f"largest error {error:.2g}",
        markup=False,
        soft_wrap=True,
    )


def _words(assignments: list[str]) -> dict[str, str]:
    words = {}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not (name and equals and value):
            raise ConfigError(f"--word {assignment!r}: write FIELD=WORDS, such as city=Leeds.")
        words[name] = value
    return words


def _named(arguments: list[str]) -> list[Path]:
    from swclip.ingest.named_photographs import named_photographs

    return _spread([Path(name) for name in named_photographs(arguments)])


def _of_manifest(source: Path) -> list[Path]:
    """Photographs of the manifest that a run or a gallery was made from, evenly over its rows."""
    from swclip.data.manifest import read_manifest

    how = "name photographs to check the export on: --photographs PHOTO... (or a folder)"
    recorded = _manifest_of(source)
    if recorded is None:
        raise InputError(f"{source}: says of no manifest that it was made from; {how}")
    try:
        manifest = read_manifest(recorded)
    except (InputError, ArtefactError) as error:
        raise InputError(f"{source}: the manifest it was made from cannot be read; {how}\n({error})") from error
    there = [path for path in _spread(list(manifest.image_paths)) if path.is_file()]
    if not there:
        raise InputError(f"{recorded}: its photographs are no longer there; {how}")
    return there


def _manifest_of(source: Path) -> str | None:
    from swclip.gallery.read_write import load_gallery
    from swclip.training.run import read_run

    if (source / "run.json").is_file():
        return read_run(source).manifest
    try:
        value: Any = load_gallery(source).meta.get("manifest")
    except ArtefactError:  # a model folder
        return None
    return None if value is None else str(value)


def _spread(paths: list[Path]) -> list[Path]:
    """At most sixteen of them, evenly."""
    count = min(len(paths), _CHECKED_ON)
    return [paths[at * len(paths) // count] for at in range(count)]
