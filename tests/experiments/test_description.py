"""Experiments as TOML files: the shipped ones, bases, and errors that name file, key and value."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pytest

from fixtures.doc_pages import ROOT
from swclip.errors import ConfigError, InputError
from swclip.experiments.description import experiment_summaries, read_experiment
from swclip.geo.distance import haversine_m
from swclip.synthetic.cities import CITIES

KNOWN = '[[splits]]\nprotocol = "known-places"\n'
POLYGON = '{"type": "Polygon", "coordinates": [[[-1.6, 53.7], [-1.5, 53.7], [-1.5, 53.8], [-1.6, 53.7]]]}'


def described(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_uk8_has_eight_separate_cities_and_says_that_they_are_an_assumption() -> None:
    uk8 = read_experiment("uk8")
    cities = [area.city for area in uk8.areas]
    assert cities == ["London", "Birmingham", "Manchester", "Glasgow", "Leeds", "Liverpool", "Edinburgh", "Bristol"]
    assert "assumption" in " ".join(uk8.notes)
    centres = np.array([area.read().area.boxes_deg[0].centre_deg for area in uk8.areas])
    apart_m = haversine_m(centres[:, :1], centres[:, 1:], centres[:, 0], centres[:, 1])
    assert apart_m[~np.eye(8, dtype=bool)].min() > 40_000.0
    assert [split.protocol for split in uk8.splits] == ["known-places", "new-streets", "new-city"]
    assert [uk8.runs_of(split) for split in uk8.splits] == [3, 3, 24]
    assert set(experiment_summaries()) == {"uk8", "generated8"}


@pytest.mark.parametrize("name", ["uk8", "generated8"])
def test_areas_hold_the_generated_cities_of_their_name(name: str) -> None:
    areas = {area.city: area.read().area for area in read_experiment(name).areas}
    centres = {style.name: np.array([[style.lat_deg, style.lon_deg]]) for style in CITIES}
    shared = set(areas) & set(centres)
    assert len(shared) >= 7
    assert all(areas[city].contains(centres[city]).all() for city in shared)


def test_a_file_changes_only_what_it_names(tmp_path: Path) -> None:
    (tmp_path / "area.geojson").write_text(POLYGON)
    text = 'base = "uk8"\n[photographs]\nsince = 2019-06-01\n[[areas]]\ncity = "Leeds"\nfile = "area.geojson"\n'
    text += '[[splits]]\nprotocol = "known-places"\nname = "known"\ndraws = 3\n[systems]\nseeds = [4, 5]\n'
    mine, uk8 = read_experiment(described(tmp_path, text)), read_experiment("uk8")
    assert mine.photographs == uk8.photographs.model_copy(update={"since": date(2019, 6, 1)})
    query, thinning = mine.photographs.read()
    assert query.since == datetime(2019, 6, 1, tzinfo=UTC)
    assert (thinning.every_m, thinning.captures) == (10.0, 2)
    (area,) = mine.areas
    assert area.read().request == {"file": str(tmp_path / "area.geojson")}
    assert mine.systems.names == uk8.systems.names
    assert mine.systems.seeds == [4, 5]
    assert mine.runs_of(mine.splits[0]) == 6


def test_the_description_of_the_documentation_is_valid(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "experiment.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"^```toml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    described(tmp_path, 'base = "sw-clip"')
    (tmp_path / "lyon.toml").write_text(text)
    experiment = read_experiment(tmp_path / "lyon.toml")
    assert [area.city for area in experiment.areas] == ["Leeds", "Lyon"]
    assert experiment.systems.names[-1] == str(tmp_path / "mine.toml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("every = 1", r"every is not a key; keys: notes, service, photographs, areas, splits, systems\."),
        ("[photographs]\nevery = 1", r"photographs\.every is not a key; keys: size, since, "),
        ('[[areas]]\ncity = "x"\nradius = 3', r"areas\.0\.radius is not a key; keys: city, near, radius_m, "),
        ('[[areas]]\ncity = "x"', r"areas\.0: needs one of: near with radius_m, bbox, file\."),
        ('[[areas]]\ncity = "x"\nnear = [1.0, 2.0]', r"areas\.0: near and radius_m belong together\."),
        ('[[areas]]\ncity = "x"\nnear = [1.0]\nradius_m = 5.0', r"areas\.0\.near = \[1\.0\]: "),
        ('[[areas]]\ncity = "x"\nnear = [95.0, 1.0]\nradius_m = 5.0\n' + KNOWN, r"areas\.0 \(x\): .*95"),
        ("[[areas]]\nbbox = [1.0, 2.0, 3.0, 4.0]", r"areas\.0\.city is missing\."),
        ("[photographs]\nevery_m = -3", r"photographs: --every-m -3: must be a positive number"),
        ('[photographs]\nevery_m = "3"', r"photographs\.every_m = '3': "),
        ('[photographs]\nsince = "2019-06-01"', r"photographs\.since = '2019-06-01': .*without quotation marks"),
        ("[photographs]\nviews = 0", r"photographs\.views = 0: "),
        ('[photographs]\nsize = "huge"', r"photographs\.size = 'huge': must be one of hd, sd, thumb\."),
        ('service = "streetview"', r"service = 'streetview': must be one of panoramax"),
        ('[[splits]]\nprotocol = "new"', r"splits\.0\.protocol = 'new': "),
        ('[[splits]]\nprotocol = "known-places"\nblock_m = -1.0', r"splits\.0: blocks of -1\.0 m are impossible"),
        ('[[splits]]\nprotocol = "new-city"\ncities = ["Paris"]', r"leave out 'Paris', which is not among the areas"),
        ('[[splits]]\nprotocol = "new-city"\ndraws = 2', r"splits\.0: draws are of known-places and new-streets"),
        ('[[splits]]\nprotocol = "new-city"\n' * 2, r"two splits have the name 'new-city'\."),
        ('[systems]\nbaseline = "geoclip"', r"systems\.baseline = 'geoclip': is not among the systems: nearest"),
        ('[systems]\nnames = ["swclip"]', r"systems\.set with the recipe .*swclip"),
        ("[systems.set]\nstep = 3", r"systems\.set with the recipe clip: recipe clip: step is not an option"),
    ],
)
def test_an_error_names_file_key_and_value(tmp_path: Path, text: str, message: str) -> None:
    path = described(tmp_path, f'base = "uk8"\n{text}\n')
    with pytest.raises(ConfigError, match=message) as error:
        read_experiment(path)
    assert str(error.value).startswith(f"{path}: ")


def test_missing_and_circular_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"experiment 'uk9' is neither a shipped one \(generated8, uk8\)"):
        read_experiment("uk9")
    with pytest.raises(ConfigError, match="is circular"):
        read_experiment(described(tmp_path, 'base = "mine.toml"'))
    with pytest.raises(ConfigError, match=r"mine\.toml: areas is missing"):
        read_experiment(described(tmp_path, "notes = []"))
    text = 'base = "uk8"\n[[areas]]\ncity = "x"\nfile = "no.geojson"\n' + KNOWN
    with pytest.raises(InputError, match=r"areas\.0 \(x\): .*no\.geojson"):
        read_experiment(described(tmp_path, text))
