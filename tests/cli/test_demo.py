"""The demo with few photographs and steps: every command runs, the files exist, and the text says what is in them."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from swclip.cli.app import run
from swclip.cli.demo import _outcome, random_place
from swclip.comparison.document import Difference
from swclip.data.manifest import read_manifest
from swclip.data.splits import candidates_for, indices, read_splits
from swclip.gallery.store import GalleryStore
from swclip.geo.distance import haversine_m
from swclip.web.thumbnails import Thumbnails

pytestmark = pytest.mark.slow

PHOTOGRAPHS = 48


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo") / "out"


@pytest.fixture(scope="module")
def shown(out: Path) -> str:
    """The text of one demo."""
    from swclip.cli.console import console

    with console.capture() as captured:
        arguments = ["demo", "--out", str(out), "--photos-per-city", str(PHOTOGRAPHS), "--steps", "2"]
        assert run([*arguments, "--training-seeds", "1"]) == 0
    return captured.get()


@pytest.mark.parametrize("protocol", ["known-places", "new-streets"])
def test_compares_both_protocols(shown: str, out: Path, protocol: str) -> None:
    document = json.loads((out / "benchmark" / protocol / "benchmark.json").read_text())
    assert list(document["systems"]) == ["nearest-neighbour", "nearest-neighbour-whitened", "clip", "sw-clip"]
    assert document["made_with"]["image_tower"] == "builtin:street"
    assert document["estimator"] == "mode"
    for system in document["systems"].values():
        assert system["mean"]["baselines"]["floor"]["median"] <= system["mean"]["error_m"]["median"]
    table = shown.partition(f"{protocol.replace('-', ' ').capitalize()}: ")[2].partition("SW-CLIP minus CLIP")[0]
    for name, key in (("CLIP", "clip"), ("SW-CLIP", "sw-clip")):
        shares = document["systems"][key]["mean"]["accuracy_within_m"]
        row = next(line for line in table.splitlines() if line.startswith(f"│ {name} "))
        assert [f"{shares[radius]:.1%}".replace("%", " %") for radius in ("25", "100")] == re.findall(r"[\d.]+ %", row)


def test_states_how_far_a_random_place_of_the_city_is(shown: str, out: Path) -> None:
    manifest, splits = read_manifest(out / "cities"), read_splits(out / "new-streets.parquet")
    candidates = candidates_for(splits, "query")
    generator, errors_m = np.random.default_rng(0), []
    for row in indices(splits, manifest, "query"):
        query = manifest.frame.iloc[row]
        answers = candidates[candidates["city"] == query["city"]].sample(2000, replace=True, random_state=generator)
        lat_deg, lon_deg = answers[["lat_deg", "lon_deg"]].to_numpy().T
        errors_m.append(haversine_m(query["lat_deg"], query["lon_deg"], lat_deg, lon_deg))
    drawn_m = np.concatenate(errors_m)
    median_m, within_25, within_100 = random_place(splits, manifest)
    assert median_m == pytest.approx(np.median(drawn_m), rel=0.05)
    assert within_25 == pytest.approx(np.mean(drawn_m <= 25.0), abs=0.02)
    assert within_100 == pytest.approx(np.mean(drawn_m <= 100.0), abs=0.02)
    row = next(line for line in shown.partition("New streets: ")[2].splitlines() if "random place" in line)
    assert f" {median_m:.0f} m " in row


def test_states_what_the_intervals_support() -> None:
    less, more = Difference(value=-30.0, low=-60.0, high=-5.0), Difference(value=0.1, low=0.05, high=0.2)
    open_ = Difference(value=-1.0, low=-60.0, high=5.0)
    both = {"median": less, "within_25": more, "within_100": Difference(value=0.1, low=None, high=None)}
    assert _outcome("new-streets", both) == (
        "New streets: SW-CLIP is better (median error, within 25 m); no difference is supported (within 100 m)."
    )
    opposite = {"median": more, "within_25": less, "within_100": open_}
    assert _outcome("known-places", opposite) == (
        "Known places: SW-CLIP is worse (median error, within 25 m); no difference is supported (within 100 m)."
    )


def test_commands_are_stated_in_order(shown: str) -> None:
    commands = [shlex.split(line[2:]) for line in shown.splitlines() if line.startswith("$ swclip ")]
    assert [words[1] for words in commands] == ["synth", "split", "split", "benchmark", "benchmark", "index", "locate"]
    assert "About 3 minutes" in shown.splitlines()[0]
    assert re.search(r"^New streets: .*\(.*median error.*\)", shown, re.MULTILINE), "what the intervals support"
    after = shown.partition("What to type next")[2]
    assert after.index("swclip quickstart PH") < after.index("swclip prepare PH") < after.index("swclip locate g")


def test_locates_a_query_drawn_by_chance(shown: str, out: Path) -> None:
    manifest, splits = read_manifest(out / "cities"), read_splits(out / "known-places.parquet")
    photograph = (out / "query.jpg").read_bytes()
    queries = indices(splits, manifest, "query")
    drawn = [row for row in queries if manifest.image_paths[row].read_bytes() == photograph]
    assert drawn == [np.random.default_rng(0).choice(queries)]
    assert "within 50 m" in shown
    assert "which was drawn by chance" in shown
    assert (out / "located.png").stat().st_size > 0


def test_gallery_shows_thumbnails(shown: str, out: Path) -> None:
    thumbnails = Thumbnails.of_gallery(GalleryStore.open(out / "gallery"))
    splits = read_splits(out / "known-places.parquet")
    assert thumbnails is not None
    assert len(thumbnails) == int(splits.frame["split"].isin(["train", "val"]).sum())
