"""Captions and map tiles: they match the photographs, and are reproducible."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from swclip.data.manifest import COLUMNS, read_manifest
from swclip.synthetic.captions import (
    KNOWS_STREET,
    MISSING,
    Sign,
    caption_of,
    signs_in_view,
    street_names,
    write_caption,
)
from swclip.synthetic.captures import frame_shot, plan_captures
from swclip.synthetic.cities import CITIES
from swclip.synthetic.generate import generate
from swclip.synthetic.lettering import SHOP_NAMES
from swclip.synthetic.map_tile import OFFSET_M, TILE_M, TILE_PX, map_tile, tile_centre
from swclip.synthetic.photograph import Job, Modalities, run_job
from swclip.synthetic.render import render
from swclip.synthetic.scene import TREE, Props, build_scene
from swclip.synthetic.walls import VEHICLE, Walls

N = 26  # one more than a job has
SMALL: dict[str, Any] = {"cities": 1, "photos_per_city": N, "size_px": 24}


def _hashes(folder: Path, *suffixes: str) -> dict[str, str]:
    files = (p for p in sorted(folder.rglob("*")) if p.is_file() and (not suffixes or p.suffix in suffixes))
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plain") / "one"
    generate(folder, **SMALL, workers=1)
    return folder


@pytest.fixture(scope="module")
def with_modalities(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("views") / "one"
    generate(folder, **SMALL, captions=True, maps=True, workers=1)
    return folder


@pytest.mark.parametrize("city", range(len(CITIES)))
def test_street_names_are_unique(city: int) -> None:
    names = street_names(city, 0)
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[A-Z][A-Za-z ]+ [A-Z][a-z]+", name) for name in names)
    # Names of streets and shops must not be confused.
    assert not {word.upper() for name in names for word in name.split()} & set(SHOP_NAMES)


def test_modalities_are_optional(plain: Path, with_modalities: Path) -> None:
    assert {p.name for p in plain.iterdir()} == {"images", "manifest.parquet", "synth.json"}
    manifest = read_manifest(plain)
    assert list(manifest.frame.columns) == [*COLUMNS, "true_lat_deg", "true_lon_deg", "district"]
    assert [*manifest.captions, *manifest.map_paths] == [None] * (2 * N)
    assert _hashes(plain, ".jpg", ".json") == _hashes(with_modalities, ".jpg", ".json")


def test_writes_captions_and_tiles(with_modalities: Path) -> None:
    manifest = read_manifest(with_modalities)
    assert manifest.frame["map_path"][1] == "maps/london/london-00001.png"
    for path in manifest.map_paths:
        assert path is not None
        with Image.open(path) as tile:
            assert (tile.size, tile.mode) == ((TILE_PX, TILE_PX), "RGB")
            assert len(np.unique(np.asarray(tile).reshape(-1, 3), axis=0)) > 40  # smooth edges give many colours
    written = [caption for caption in manifest.captions if caption]
    assert 0.25 * N < len(written) < N
    assert not any(re.search(r"\d", caption) for caption in written)  # no coordinates


def test_files_do_not_depend_on_the_division_into_jobs(with_modalities: Path, tmp_path: Path) -> None:
    for start, stop in ((19, N), (7, 19), (0, 7)):
        assert (
            run_job(Job(str(tmp_path), 0, start, stop, N, 24, 0, Modalities(captions=True, maps=True))) == stop - start
        )
    expected = _hashes(with_modalities, ".jpg", ".txt", ".png")
    assert len(expected) == 3 * N
    assert _hashes(tmp_path) == expected


def test_resumes_and_adds_modalities_later(with_modalities: Path, plain: Path, tmp_path: Path) -> None:
    class StopError(Exception):
        pass

    def stop(done: int, total: int) -> None:
        if done >= 25:
            raise StopError

    folder = tmp_path / "again"
    with pytest.raises(StopError):
        generate(folder, **SMALL, maps=True, workers=1, progress=stop)
    tile = folder / "maps/london/london-00003.png"
    photograph = folder / "images/london/london-00005.jpg"
    stamps = [path.stat().st_mtime_ns for path in (tile, photograph)]
    (folder / "maps/london/london-00005.png").unlink()
    generate(folder, **SMALL, captions=True, maps=True, workers=1)
    assert _hashes(folder) == _hashes(with_modalities)
    assert [path.stat().st_mtime_ns for path in (tile, photograph)] == stamps
    # Without modalities, the manifest is again the plain one.
    generate(folder, **SMALL, workers=1)
    assert (folder / "manifest.parquet").read_bytes() == (plain / "manifest.parquet").read_bytes()


def test_gps_noise_does_not_change_captions_and_tiles(with_modalities: Path, tmp_path: Path) -> None:
    generate(tmp_path, **SMALL, captions=True, maps=True, gps_noise_m=30.0, workers=1)
    assert _hashes(tmp_path, ".png", ".txt") == _hashes(with_modalities, ".png", ".txt")


def _named(caption: str) -> set[str]:
    return {name for name in SHOP_NAMES if re.search(rf"\b{re.escape(name)}\b", caption, re.IGNORECASE)}


def _streets(caption: str, names: tuple[str, ...]) -> set[str]:
    """Return the streets that a caption may name, in full or abbreviated."""
    short = {"Street": "St", "Road": "Rd", "Avenue": "Ave", "Lane": "Ln", "Terrace": "Terr", "Place": "Pl"}
    matches = set()
    for name in names:
        stem, _, kind = name.rpartition(" ")
        if re.search(rf"\b{stem} ({kind}|{short.get(kind, kind)})\b", caption, re.IGNORECASE):
            matches.add(name)
    # "St James Street" contains "James Street": only the longest match counts.
    return {name for name in matches if not any(name != longer and longer.endswith(name) for longer in matches)}


def test_captions_name_only_the_street_and_visible_signs() -> None:
    city, named = 0, 0
    scene, names = build_scene(city, 0), street_names(city, 0)
    places, captures = plan_captures(city, 400, 0)
    for capture in captures[::5]:
        shot = frame_shot(scene, city, capture, 32, 0)
        caption = caption_of(scene, city, places[capture.place], capture, shot, 0)
        if caption is None:
            continue
        visible = {sign.name for sign in signs_in_view(scene, shot)}
        assert _named(caption) <= visible, caption
        assert _streets(caption, names) <= {names[places[capture.place].street]}, caption
        named += bool(_named(caption))
    assert named > 10


def test_visible_signs_are_in_the_picture() -> None:
    """Repainting the letters of a visible sign changes the picture at the position of the sign."""
    city, tried = 0, 0
    scene = build_scene(city, 0)
    _, captures = plan_captures(city, 400, 0)
    for capture in captures[::7]:
        shot = frame_shot(scene, city, capture, 160, 0)
        for sign in signs_in_view(scene, shot)[:1]:
            letters = scene.buildings.letters.copy()
            letters[scene.buildings.name == SHOP_NAMES.index(sign.name)] = [1.0, 0.0, 1.0]
            repainted = replace(scene, buildings=replace(scene.buildings, letters=letters))
            before, after = render(scene, shot, 1).astype(int), render(repainted, shot, 1).astype(int)
            changed = np.abs(after - before).sum(axis=2) > 24
            columns = np.flatnonzero(changed.any(axis=0))
            assert len(columns), sign
            assert columns.min() <= 160 * sign.across <= columns.max(), sign
            tried += 1
        if tried == 8:
            return
    pytest.fail("too few signs were found")


@pytest.mark.parametrize("obstacle", ["lorry", "trees"])
def test_obstacles_hide_signs(obstacle: str) -> None:
    scene = build_scene(0, 0)
    _, captures = plan_captures(0, 400, 0)
    shots = (frame_shot(scene, 0, capture, 32, 0) for capture in captures)
    shot = next(shot for shot in shots if signs_in_view(scene, shot) and shot.conditions.leaves)
    ahead, right = shot.camera.forward, shot.camera.right
    before = np.array([shot.camera.east_m, shot.camera.north_m]) + 3.0 * ahead
    if obstacle == "lorry":
        flank = Walls.of(np.array([[before - 5.0 * right, before + 5.0 * right]]), 9.0, 0.0, VEHICLE, 0)
        vehicles = replace(shot.vehicles, walls=Walls.joined([shot.vehicles.walls, flank]))
        assert signs_in_view(scene, replace(shot, vehicles=vehicles)) == []
        return
    props = scene.props
    row = before + np.linspace(-4.0, 4.0, 9)[:, None] * right
    crowded = Props(
        np.concatenate([props.position_m, row]),
        np.append(props.kind, np.full(9, TREE)).astype(np.int32),
        np.append(props.height_m, np.full(9, 6.0)).astype(np.float32),
        np.append(props.key, np.arange(9)).astype(np.int32),
    )
    assert signs_in_view(replace(scene, props=crowded), shot) == []


SIGNS = [Sign("CAFE", 0.8, 0.02), Sign("THE CROWN", 0.2, 0.01), Sign("BOOKS", 0.5, 0.01)]


@pytest.mark.parametrize(
    ("signs", "share"), [(SIGNS, (1 - MISSING)), ([], (1 - MISSING) * KNOWS_STREET)], ids=["signs", "none"]
)
def test_share_of_missing_captions(signs: list[Sign], share: float) -> None:
    texts = [write_caption("Elm Street", signs, np.random.default_rng(k)) for k in range(3000)]
    assert np.mean([text is not None for text in texts]) == pytest.approx(share, abs=0.03)
    assert len({text for text in texts if text}) > (60 if signs else 10)  # varied wording
    assert all(text is None or text.strip() == text != "" for text in texts)


def test_sides_match_the_picture() -> None:
    texts = [write_caption("Elm Street", SIGNS, np.random.default_rng(k)) for k in range(1500)]
    sides: dict[str, Callable[[str], bool]] = {
        "on the left": lambda text: "the crown" in text,
        "on the right": lambda text: "cafe" in text,
        "ahead": lambda text: "books" in text,
    }
    for side, fits in sides.items():
        with_side = [text.lower() for text in texts if text and side in text.lower()]
        assert with_side
        assert all(fits(text) for text in with_side)
    in_order = [text for text in texts if text and "Cafe" in text and "The Crown" in text]
    assert in_order
    assert all(text.index("The Crown") < text.index("Cafe") for text in in_order)


def test_tile_centres_are_uniform_in_the_disc() -> None:
    _, captures = plan_captures(0, 2000, 0)
    offset = np.array([tile_centre(0, capture, 0) - capture.position_m for capture in captures])
    away = np.hypot(*offset.T)
    assert away.max() <= OFFSET_M
    # Uniform in a disc: the squared distance is uniform, and no direction is preferred.
    assert np.quantile(away**2, [0.25, 0.5, 0.75]) / OFFSET_M**2 == pytest.approx([0.25, 0.5, 0.75], abs=0.05)
    assert np.abs(offset.mean(axis=0)).max() < 1.5
    assert OFFSET_M < 0.5 * TILE_M  # the camera is on the tile


def test_tiles_show_streets_at_their_positions() -> None:
    """Centre lines of streets have the colours of roads, buildings do not (north is up, east is right)."""
    city = 0
    scene = build_scene(city, 0)
    _, captures = plan_captures(city, 400, 0)
    roads = {(247, 246, 242), (255, 255, 255), (255, 240, 184), (252, 212, 140)}
    on_road, on_building = [], []
    for capture in captures[::40]:
        tile, centre = np.asarray(map_tile(city, capture, 0)), tile_centre(city, capture, 0)

        def colours(points_m: np.ndarray[Any, Any], tile: Any = tile, centre: Any = centre) -> list[tuple[int, ...]]:
            inside = points_m[np.abs(points_m - centre).max(axis=1) < 0.5 * TILE_M - 2.0] - centre
            column = np.floor((inside[:, 0] + 0.5 * TILE_M) * TILE_PX / TILE_M).astype(int)
            row = np.floor((0.5 * TILE_M - inside[:, 1]) * TILE_PX / TILE_M).astype(int)
            return [tuple(colour) for colour in tile[row, column].tolist()]

        for number, street in enumerate(scene.plan.streets):
            points, _ = scene.plan.centre_line(number, np.arange(6.0, max(street.length_m - 6.0, 7.0), 9.0))
            on_road += [colour in roads for colour in colours(points)]
        on_building += [colour in roads for colour in colours(scene.footprints.mean(axis=1))]
    assert len(on_road) > 150
    assert np.mean(on_road) > 0.9  # trees cover some narrow streets
    assert len(on_building) > 150
    assert np.mean(on_building) < 0.02
