"""The gallery's table against plain files: time and size of writing, appending and reading 100,000 photographs.

    python benchmarks/gallery.py [--photographs N --dim D --append N --repeats R]

Compares the gallery of `swclip` (one Lance table), the same columns as one safetensors and one Parquet file, and the
matrices alone as .npy. Plain files cannot be appended to: they are read and rewritten. Each photograph has a different
position. Reading ends with the gallery in memory, in its order. The repeats of the variants alternate, and the fastest
of each is printed, since other load of the machine slows single ones. Prints wall-clock and CPU seconds (of all
threads), of which only the latter are comparable on a loaded machine.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from common import new_parser, table_of, table_of_figures, write_results
from safetensors.numpy import load_file, save_file

from swclip.gallery.filters import EntryFilter
from swclip.gallery.gallery import Gallery
from swclip.gallery.inspect import verify
from swclip.gallery.read_write import description_of, entries_of, load_gallery
from swclip.gallery.schema import Description, entry_schema
from swclip.gallery.store import GalleryStore

Ways = dict[str, Callable[[], None]]


def main() -> None:
    """Run the comparison."""
    parser = new_parser(__doc__)
    parser.add_argument("--photographs", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--append", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    whole = made(options.photographs + options.append, options.dim)
    gallery, more = part(whole, 0, options.photographs), part(whole, options.photographs, len(whole))
    with tempfile.TemporaryDirectory(prefix="swclip-bench-") as folder:
        results = measured(Path(folder), gallery, more, options.repeats)
    only_lance = results.pop("lance only")
    tables = [table_of(results, "step"), table_of_figures(only_lance)]
    document = {"photographs": options.photographs, "dim": options.dim, "append": options.append}
    write_results(options.out, "gallery", {**document, "steps": results, "lance only": only_lance}, "\n".join(tables))


def made(count: int, dim: int) -> Gallery:
    """A gallery of photographs on a grid of about 11 m, in the order of reading."""
    generator = np.random.default_rng(0)
    side = int(np.ceil(np.sqrt(count)))
    cells = np.stack(np.divmod(np.arange(count), side), axis=1)
    return Gallery(
        [f"place-{i:08d}" for i in range(count)],
        np.array([51.5, -0.1]) + cells * [1e-4, 1.6e-4],
        [None] * count,
        _unit(generator, count, dim),
        _unit(generator, count, dim),
        np.arange(count, dtype=np.int64),
        [f"photograph-{i:08d}" for i in range(count)],
        {"fingerprint": "benchmark"},
    )


def part(gallery: Gallery, start: int, end: int) -> Gallery:
    """A range of the places, with their photographs."""
    rows = slice(start, end)
    return Gallery(
        gallery.candidate_ids[rows],
        gallery.positions_deg[rows],
        gallery.cities[rows],
        gallery.location_embeddings[rows],
        gallery.image_embeddings[rows],
        np.arange(end - start, dtype=np.int64),
        gallery.image_ids[rows],
        gallery.meta,
    )


def measured(folder: Path, gallery: Gallery, more: Gallery, repeats: int) -> dict[str, dict[str, float]]:
    """Seconds and megabytes of each step, by variant."""
    lance, files, bare = folder / "lance", folder / "files", folder / "npy"
    description, grown = description_of(gallery), part(gallery, 0, len(gallery))
    entries = pa.Table.from_batches(entries_of(more), entry_schema(Description("benchmark", gallery.dim)))

    def create() -> None:
        GalleryStore.create(lance, description, entries_of(gallery), lambda beside: (beside / "model").mkdir())

    def grow_files(write: Callable[[Path, Gallery], None], read: Callable[[Path], Gallery], where: Path) -> None:
        write(where, _joined(read(where), more))

    steps: dict[str, Ways] = {
        "create": {
            "lance": create,
            "safetensors + parquet": lambda: write_files(files, gallery),
            "npy": lambda: write_npy(bare, gallery),
        },
        "load": {
            "lance": lambda: _check(load_gallery(lance), grown),
            "safetensors + parquet": lambda: _check(read_files(files), grown),
            "npy": lambda: _check(read_npy(bare, grown), grown),
        },
        "append": {
            "lance": lambda: _appended(lance, entries),
            "safetensors + parquet": lambda: grow_files(write_files, read_files, files),
            "npy": lambda: grow_files(write_npy, lambda where: read_npy(where, grown), bare),
        },
    }
    results: dict[str, dict[str, float]] = {}
    for step, ways in steps.items():
        clock: dict[str, list[float]] = {name: [] for name in ways}
        processors: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(repeats):
            for name, way in ways.items():
                if step == "append":
                    _restore(name, lance, files, bare, gallery, create)
                started, used = time.perf_counter(), time.process_time()
                way()
                clock[name].append(time.perf_counter() - started)
                processors[name].append(time.process_time() - used)
        results[f"{step}, s"] = {name: round(min(values), 3) for name, values in clock.items()}
        results[f"{step}, processor s"] = {name: round(min(values), 3) for name, values in processors.items()}
        if step == "create":
            results["MB"] = {
                name: round(sum(f.stat().st_size for f in where.rglob("*") if f.is_file()) / 1e6, 1)
                for name, where in (("lance", lance), ("safetensors + parquet", files), ("npy", bare))
            }
    results["lance only"] = _further(lance, gallery)
    return results


def _further(folder: Path, gallery: Gallery) -> dict[str, float]:
    """Operations that plain files do not have."""
    store = GalleryStore.open(folder)
    lat, lon = gallery.positions_deg[len(gallery) // 2]
    near = EntryFilter(near=(float(lat), float(lon)), radius_m=500.0)
    ways: dict[str, Callable[[], int]] = {
        "load 500 m round a point": lambda: len(load_gallery(folder, near)),
        "delete 500 m round a point": lambda: store.delete(near).deleted,
        "compact": lambda: store.compact() or store.count(),
        "verify": lambda: len(verify(store)),
    }
    results: dict[str, float] = {}
    for name, way in ways.items():
        started = time.perf_counter()
        results[f"{name}, rows"] = way()
        results[f"{name}, s"] = round(time.perf_counter() - started, 3)
    return results


def write_files(folder: Path, gallery: Gallery) -> None:
    """Write matrices as safetensors, the rest as Parquet."""
    folder.mkdir(exist_ok=True)
    columns = {
        "candidate_id": gallery.candidate_ids,
        "lat_deg": gallery.positions_deg[:, 0],
        "lon_deg": gallery.positions_deg[:, 1],
        "city": pa.array(gallery.cities, pa.string()),
        "image_id": gallery.image_ids,
    }
    pq.write_table(pa.table(columns), folder / "candidates.parquet", compression="zstd")
    tensors = {
        "location": gallery.location_embeddings,
        "image": gallery.image_embeddings,
        "rows": gallery.image_rows,
    }
    save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, folder / "embeddings.safetensors")


def read_files(folder: Path) -> Gallery:
    """Read the files of `write_files`."""
    table, tensors = pq.read_table(folder / "candidates.parquet"), load_file(folder / "embeddings.safetensors")
    return Gallery(
        table["candidate_id"].to_pylist(),
        np.stack([table["lat_deg"].to_numpy(), table["lon_deg"].to_numpy()], axis=1),
        table["city"].to_pylist(),
        tensors["location"],
        tensors["image"],
        tensors["rows"],
        table["image_id"].to_pylist(),
    )


def write_npy(folder: Path, gallery: Gallery) -> None:
    """Write the matrices alone."""
    folder.mkdir(exist_ok=True)
    np.save(folder / "location.npy", gallery.location_embeddings)
    np.save(folder / "image.npy", gallery.image_embeddings)


def read_npy(folder: Path, names: Gallery) -> Gallery:
    """Read the matrices; ids and positions are already in memory."""
    location, image = np.load(folder / "location.npy"), np.load(folder / "image.npy")
    return Gallery(
        names.candidate_ids, names.positions_deg, names.cities, location, image, names.image_rows, names.image_ids
    )


def _appended(folder: Path, entries: pa.Table) -> None:
    GalleryStore.open(folder).append(entries)


def _restore(name: str, lance: Path, files: Path, bare: Path, gallery: Gallery, create: Callable[[], None]) -> None:
    if name == "lance":
        shutil.rmtree(lance)
        create()
    elif name == "npy":
        write_npy(bare, gallery)
    else:
        write_files(files, gallery)


def _joined(gallery: Gallery, more: Gallery) -> Gallery:
    return Gallery(
        gallery.candidate_ids + more.candidate_ids,
        np.concatenate([gallery.positions_deg, more.positions_deg]),
        gallery.cities + more.cities,
        np.concatenate([gallery.location_embeddings, more.location_embeddings]),
        np.concatenate([gallery.image_embeddings, more.image_embeddings]),
        np.concatenate([gallery.image_rows, more.image_rows + len(gallery)]),
        gallery.image_ids + more.image_ids,
    )


def _check(read: Gallery, written: Gallery) -> None:
    if read.image_ids != written.image_ids or not np.array_equal(
        read.image_embeddings[-1], written.image_embeddings[-1]
    ):
        raise RuntimeError("the gallery that was read differs from the one that was written.")


def _unit(generator: np.random.Generator, count: int, dim: int) -> np.ndarray:
    rows = generator.normal(size=(count, dim)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


if __name__ == "__main__":
    main()
