"""`swclip export`: a model as ONNX graphs, or the embeddings of a gallery as one file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from swclip.cli.help import ADVANCED, REPEATED
from swclip.errors import ArtefactError, ConfigError, InputError
from swclip.files import found_path

_N_PHOTOGRAPHS = 16


def export(
    source: Path,
    /,
    *,
    out: Path,
    embeddings: Literal["float32", "int8"] | None = None,
    location: bool = False,
    word: list[str] | None = None,
    photographs: Annotated[list[str] | None, REPEATED, ADVANCED] = None,
    opset: Annotated[int, ADVANCED] = 18,
) -> None:
    """Export a model to ONNX, or the embeddings of a gallery.

    The ONNX graphs run without swclip. They are run in onnxruntime and compared with the model on photographs; if any
    value of an embedding differs by more than 1e-4, nothing is written.

    Args:
        source: A run, a gallery, or a model folder.
        out: Output folder for the graphs, with preprocess.json, parity.json and a README that shows their use; with
            --embeddings, the safetensors file.
        embeddings: Write only the embeddings of the gallery SOURCE: float32 (unchanged) or int8 (a quarter of the
            size).
        location: Export the location tower too, for positions that are in no gallery.
        word: A word of the location prompt that is the same for all positions, such as city=Leeds; can be repeated.
        photographs: Photographs, or folders of photographs, to compare on; by default sixteen of the manifest that
            SOURCE was made from.
        opset: Version of the ONNX operator set.

    Examples:
        swclip export runs/first --out onnx
        # positions too, all of them in Leeds
        swclip export runs/first --out onnx --location --word city=Leeds
        swclip export gallery --embeddings int8 --out gallery.safetensors
    """
    if embeddings is not None:
        if location or word or photographs:
            raise ConfigError("--embeddings writes only the embeddings; remove --location, --word and --photographs.")
        _write_embeddings(source, out, embeddings)
        return
    words = _words(word or [])
    if words and not location:
        raise ConfigError("--word needs --location; add --location or remove --word.")

    from swclip.cli.console import console, next_step
    from swclip.export.folder import check_output, export_model
    from swclip.models.locator_model import load_model

    check_output(out)
    model = load_model(source)
    paths = _photographs_at(photographs) if photographs else _photographs_of_manifest(source)
    with console.status("Exporting") as status:
        exported = export_model(
            model,
            out,
            paths,
            location=location,
            words=words,
            opset=opset,
            report=lambda step: status.update(step),
        )
    for name, graph in exported["graphs"].items():
        parity = exported["parity"][name]
        console.print(
            f"{out / name}: {graph['bytes'] / 1e6:.1f} MB, differs from the model by at most "
            f"{parity['largest_difference']:.1e} (lowest cosine similarity {parity['least_cosine']:.6f}, "
            f"{parity['inputs']} inputs)",
            markup=False,
            soft_wrap=True,  # does not break paths
        )
    next_step("export", f"read {out / 'README.md'}, which shows how the graphs are used")


def _write_embeddings(source: Path, out: Path, precision: Literal["float32", "int8"]) -> None:
    from swclip.cli.console import console, next_step
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
    next_step("export", f"read {out} with safetensors; docs/export.md shows how")


def _words(assignments: list[str]) -> dict[str, str]:
    words = {}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not (name and equals and value):
            raise ConfigError(f"--word {assignment!r}: write FIELD=WORDS, such as city=Leeds.")
        words[name] = value
    return words


def _photographs_at(arguments: list[str]) -> list[Path]:
    from swclip.ingest.named_photographs import named_photographs

    return _evenly_spaced([Path(name) for name in named_photographs(arguments)])


def _photographs_of_manifest(source: Path) -> list[Path]:
    """Photographs of the manifest that a run or a gallery was made from, evenly spaced over its rows."""
    from swclip.data.manifest import read_manifest
    from swclip.imaging.photograph_file import photograph_exists

    advice = "name photographs to check the export on: --photographs PHOTO... (or a folder)"
    recorded = _manifest_of(source)
    if recorded is None:
        raise InputError(f"{source}: does not record a manifest; {advice}")
    try:
        manifest = read_manifest(recorded)
    except (InputError, ArtefactError) as error:
        raise InputError(f"{source}: the manifest it was made from cannot be read; {advice}\n({error})") from error
    paths = [path for path in _evenly_spaced(list(manifest.image_paths)) if photograph_exists(path)]
    if not paths:
        raise InputError(f"{recorded}: its photographs no longer exist; {advice}")
    return paths


def _manifest_of(source: Path) -> str | None:
    from swclip.gallery.read_write import load_gallery
    from swclip.training.run import read_run

    if (source / "run.json").is_file():
        return read_run(source).manifest
    try:
        value: Any = load_gallery(source).meta.get("manifest")
    except ArtefactError:  # a model folder
        return None
    return None if value is None else str(found_path(str(value), source))


def _evenly_spaced(paths: list[Path]) -> list[Path]:
    """At most sixteen of the paths, evenly spaced."""
    count = min(len(paths), _N_PHOTOGRAPHS)
    return [paths[index * len(paths) // count] for index in range(count)]
