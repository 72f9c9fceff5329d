"""Training on captions and map tiles: accuracy, dropout, resumption, and several processes."""

from __future__ import annotations

import dataclasses
import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from swclip.calibration.posterior_config import read_posterior
from swclip.data.manifest import Manifest, read_manifest, write_manifest
from swclip.data.splits import Splits, indices, read_splits
from swclip.errors import ConfigError, InputError
from swclip.evaluation.evaluate import evaluate
from swclip.evaluation.measure import MeasureConfig
from swclip.losses import ModalitiesConfig, NeighbourhoodConfig, Objective, ObjectiveConfig, TargetConfig
from swclip.models.locator_model import LocatorModel, load_model
from swclip.training.config import TrainingConfig, load_recipe, write_config
from swclip.training.inputs import ModalitySource
from swclip.training.loop import train
from swclip.training.step import Batch, forward_backward, parameter_groups
from swclip.training.validation import Validation

pytestmark = pytest.mark.slow

VIEWS: dict[str, Any] = {"caption": "builtin:small", "map": "builtin:small", "map_size_px": 16, "head_width": 16}
STREETS = (
    "abbey bank castle dock elm fleet garden hill iron jubilee king lodge mill north oak park quay river sand tower"
)
FAST: dict[str, Any] = {"batch": {"size": 20}, "optimizer": {"rate": 3e-3}}
Small = Callable[..., TrainingConfig]


def town_with_views(
    town: Path, folder: Path, *, noise: bool = False, captioned: Callable[[int], bool] = lambda row: True
) -> tuple[Manifest, Splits]:
    """The town, with a caption and a map tile that tell each photograph's place; the photographs may be made noise."""
    shutil.copytree(town, folder)
    frame, rng = read_manifest(town).frame, np.random.default_rng(8)
    places = [int(name[1:]) for name in frame["place_id"]]
    captions, maps = [], []
    for row, (place, name) in enumerate(zip(places, frame["image_path"], strict=True)):
        if noise:
            Image.fromarray(rng.integers(0, 256, (40, 48, 3), dtype=np.uint8)).save(folder / name)
        north, east = divmod(place, 5)
        Image.new("RGB", (20, 20), (60 * north, 50 * east, 90)).save(folder / f"map-{place:02d}.png")
        captions.append(f"a shop in {STREETS.split()[place]} street" if captioned(row) else None)
        maps.append(f"map-{place:02d}.png" if captioned(row + 1) else None)
    manifest = write_manifest(folder, frame.assign(caption=captions, map_path=maps))
    return manifest, read_splits(folder / "splits.parquet")


def error_m(model: LocatorModel, data: tuple[Manifest, Splits], *use: Any) -> dict[str, float]:
    quick = MeasureConfig(estimator="argmax", resamples=20)
    report = evaluate(model, *data, use=use, config=quick).report
    assert list(report.made_with["views"]) == list(use)
    return {**dict(report.error_m), "random": report.baselines.random.mean}


def test_captions_and_maps_locate_photographs_of_noise(town: Path, tmp_path: Path, small: Small) -> None:
    data = town_with_views(town, tmp_path / "town", noise=True)
    more: dict[str, Any] = {"steps": 60, "evaluate_every": 60, "checkpoint_every": 0, "augment": False}
    config = small("sw-clip-views", **more, **FAST, model={"views": VIEWS})
    train(*data, config, tmp_path / "run")
    model = load_model(tmp_path / "run")
    for use in (("caption",), ("map",), ("caption", "map"), ("image", "caption", "map")):
        result = error_m(model, data, *use)
        assert result["mean"] < 0.5 * result["random"], use
    result = error_m(model, data, "caption")
    assert result["median"] == 0.0
    assert result["mean"] < 60.0
    # A photograph alone tells nothing, and the views that were there in training do it no harm.
    alone = error_m(model, data, "image")
    assert 100.0 < alone["mean"] < 1.3 * alone["random"]
    report = evaluate(model, *data, posterior=read_posterior(tmp_path / "run")).report
    assert report.made_with["views"] == {"image": 10, "caption": 10, "map": 10}, "the default is all there is"
    assert report.error_m.median < 60.0
    figures = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    losses = [line for line in figures if "view_fused" in line]
    assert losses[-1]["view_caption"] < 0.3 * losses[0]["view_caption"]
    assert {line["with_map"] for line in losses} == {1.0}


def test_an_informative_photograph_is_located_without_modalities(town: Path, tmp_path: Path, small: Small) -> None:
    data = town_with_views(town, tmp_path / "town", captioned=lambda row: row % 4 != 0)
    more: dict[str, Any] = {"steps": 50, "evaluate_every": 50, "checkpoint_every": 0, "augment": False}
    narrow = {"bandwidth": {"form": "fixed"}, "objective": {"targets": {"bandwidths_m": [15.0]}}}
    config = small("sw-clip-views", **more, **FAST, **narrow, model={"views": VIEWS})
    train(*data, config, tmp_path / "run")
    result = error_m(load_model(tmp_path / "run"), data, "image")
    assert result["mean"] < 60.0
    assert result["median"] == 0.0


def test_missing_modalities_are_counted_and_a_missing_column_is_refused(
    town: Path, tmp_path: Path, small: Small, caplog: pytest.LogCaptureFixture
) -> None:
    manifest, splits = town_with_views(town, tmp_path / "town", captioned=lambda row: row % 2 == 0)
    config = small("sw-clip-views", model={"views": VIEWS})
    model = LocatorModel.create(config.model, manifest.positions_deg)
    assert model.views is not None
    rows = indices(splits, manifest, "train")
    with caplog.at_level(logging.WARNING):
        ModalitySource(manifest, rows, model.views, 0.5, seed=0)
    lacking = sum(manifest.captions[row] is None for row in rows)
    assert f"{lacking} of {len(rows)} training photographs have no caption" in caplog.text
    assert f"{len(rows) - lacking} of {len(rows)} training photographs have no map tile" in caplog.text

    bare = (read_manifest(town), read_splits(town / "splits.parquet"))
    with pytest.raises(InputError, match=r"none of the 40 training photographs has one \(column 'caption'\)"):
        train(*bare, config, tmp_path / "run")
    only_map = small("sw-clip-views", model={"views": {**VIEWS, "caption": "none"}})
    with pytest.raises(InputError, match=r"\(column 'map_path'\).*set model\.views\.map"):
        train(*bare, only_map, tmp_path / "other")
    with pytest.raises(ConfigError, match=r"further modalities \(caption, map\), but objective\.views\.weight is 0"):
        load_recipe("sw-clip-views", {"objective": {"views": {"weight": 0.0}}})


def test_modality_dropout_is_a_function_of_seed_and_step(town: Path, tmp_path: Path, small: Small) -> None:
    manifest, splits = town_with_views(town, tmp_path / "town", captioned=lambda row: row % 3 != 0)
    model = LocatorModel.create(small("sw-clip-views", model={"views": VIEWS}).model, manifest.positions_deg)
    assert model.views is not None
    rows = indices(splits, manifest, "train")
    source, again = (ModalitySource(manifest, rows, model.views, 0.4, seed=6) for _ in range(2))
    drawn = np.random.default_rng(0).permutation(len(rows))[:32]
    whole = source.batch(drawn, step=11)
    source.batch(drawn[::-1].copy(), step=12)  # what was drawn before does not matter
    halves = [again.batch(part, step=11, rank=rank) for rank, part in enumerate((drawn[:16], drawn[16:]))]
    assert torch.equal(torch.cat([half.kept for half in halves]), whole.kept)
    assert torch.equal(torch.cat([half.present for half in halves]), whole.present)
    assert whole.maps is not None
    assert torch.equal(torch.cat([half.maps for half in halves if half.maps is not None]), whole.maps)
    assert not torch.equal(source.batch(drawn, step=13).kept, whole.kept)
    for at, row in enumerate(drawn):
        assert whole.captions is not None
        assert whole.captions[at] == manifest.captions[rows[row]]
        assert whole.present[at].tolist() == [
            True,
            whole.captions[at] is not None,
            manifest.map_paths[rows[row]] is not None,
        ]
        assert whole.maps[at].any() == whole.present[at, 2]
    assert not (whole.kept & ~whole.present).any()
    assert whole.kept.any(dim=1).all(), "something is always left"
    share = np.mean([source.batch(drawn, step).kept.sum() / whole.present.sum() for step in range(20)])
    assert 0.55 < share < 0.72  # 0.6, and the rows that would have lost everything


@pytest.mark.parametrize("chunk", [1, 4])
def test_chunks_give_the_gradient_of_the_whole_batch(chunk: int, town: Path, tmp_path: Path, small: Small) -> None:
    manifest, splits = town_with_views(town, tmp_path / "town", captioned=lambda row: row % 5 in (0, 1))
    config = small("sw-clip-views", model={"image": {"head_dropout": 0.0}, "views": {**VIEWS, "head_dropout": 0.0}})
    model = LocatorModel.create(config.model, manifest.positions_deg, seed=2).double().train()
    assert model.views is not None
    rows = indices(splits, manifest, "train")
    inputs_of_batch = ModalitySource(manifest, rows, model.views, 0.3, seed=1).batch(np.arange(9), step=0)
    assert inputs_of_batch.maps is not None
    inputs = torch.randn(9, model.image_tower.feature_dim, generator=torch.Generator().manual_seed(4)).double()
    batch = Batch(
        inputs,
        torch.from_numpy(manifest.positions_deg[rows[:9]]),
        None,
        torch.full((9,), torch.nan, dtype=torch.float64),
        torch.zeros(9, dtype=torch.int64),
        modalities=dataclasses.replace(inputs_of_batch, maps=inputs_of_batch.maps.double()),
    )
    targets, neighbours = TargetConfig(bandwidths_m=(80.0,)), NeighbourhoodConfig(weight=0.5, bandwidth_m=80.0)
    objective = Objective(ObjectiveConfig(targets, neighbours, views=ModalitiesConfig(weight=0.7)))
    result = []
    for size in (0, chunk):
        model.zero_grad()
        figures = forward_backward(model, objective, batch, encode=model.encode_image_features, chunk=size)
        result.append(({n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}, figures))
    (wanted, whole), (gradients, parts) = result
    assert {
        "views.log_weight",
        "views.caption.text.tower.words.weight",
        "views.map.head.linear.weight",
    } <= wanted.keys()
    assert gradients.keys() == wanted.keys()
    for name, gradient in wanted.items():
        assert gradient.abs().max() > 0, name
        torch.testing.assert_close(gradients[name], gradient, rtol=1e-4, atol=1e-8, msg=name)
    assert {n: v.item() for n, v in parts.items()} == pytest.approx({n: v.item() for n, v in whole.items()})


class _Killed(Exception):
    pass


def test_an_interrupted_run_resumes_to_the_same_bytes(town: Path, tmp_path: Path, small: Small) -> None:
    data = town_with_views(town, tmp_path / "town", captioned=lambda row: row % 3 != 0)
    more: dict[str, Any] = {"steps": 10, "evaluate_every": 5, "checkpoint_every": 3}
    config = small("sw-clip-views", **more, batch={"size": 12, "chunk": 7}, model={"views": VIEWS})

    def kill(what: str, done: int, total: int) -> None:
        if what == "training" and done == 8:
            raise _Killed

    with pytest.raises(_Killed):
        train(*data, config, tmp_path / "killed", progress=kill)
    train(*data, config, tmp_path / "killed")
    train(*data, config, tmp_path / "whole")
    for name in ("model.safetensors", "posterior.json", "config.json"):
        one, two = (tmp_path / run / "model" / name for run in ("killed", "whole"))
        assert one.read_bytes() == two.read_bytes(), name


def test_validation_embeds_queries_with_and_without_modalities(town: Path, tmp_path: Path, small: Small) -> None:
    data = town_with_views(town, tmp_path / "town")
    model = LocatorModel.create(small("sw-clip-views", model={"views": VIEWS}).model, data[0].positions_deg)
    validation = Validation.of(*data, None)
    assert validation is not None
    queries = validation.queries(model, None)
    count = len(validation.rows)
    assert len(queries) == 2 * count
    assert queries.finite.all()
    fit, calibration = validation.fit(model, queries)
    assert (fit.n_queries, len(calibration)) == (2 * count, count), "a photograph that is asked twice counts once"
    model.views = None
    embeddings = queries.embeddings
    assert np.array_equal(validation.queries(model, None).embeddings, embeddings[:count])
    assert np.abs(embeddings[:count] - embeddings[count:]).max() > 1e-3


def test_learning_rates_of_the_modalities(towers: Path, small: Small) -> None:
    rates = {"rate": 1.0, "tower_rate": 2.0, "text_rate": 3.0, "grid_rate": 4.0, "scale_rate": 5.0, "weight_decay": 0.1}

    def grouped(**views: Any) -> dict[str, tuple[float, float]]:
        config = small("sw-clip-views", optimizer=rates, model={"views": {**VIEWS, **views}})
        model = LocatorModel.create(config.model, [[53.8, -1.55]])
        names = {id(p): name for name, p in model.named_parameters()}
        groups = parameter_groups(model, config)
        return {names[id(p)]: (g["base_rate"], g["weight_decay"]) for g in groups for p in g["params"]}

    scratch = grouped()
    assert scratch["views.log_weight"] == (5.0, 0.0)
    assert scratch["views.caption.text.tower.words.weight"] == (1.0, 0.0)
    assert scratch["views.map.tower.backbone.patches.0.weight"] == (1.0, 0.1)
    pretrained = grouped(caption=str(towers / "bert"), map=str(towers / "dinov2"))
    assert pretrained["views.caption.text.tower.embeddings.word_embeddings.weight"] == (3.0, 0.1)
    assert pretrained["views.map.tower.backbone.layernorm.bias"] == (2.0, 0.0)
    assert pretrained["views.caption.head.linear.weight"] == (1.0, 0.1)


def test_two_processes_equal_one(
    town: Path, tmp_path: Path, small: Small, environment: dict[str, str], start_group: Callable[..., Any]
) -> None:
    """Few captions, so that a process often has none where the other has some."""
    data = town_with_views(town, tmp_path / "town", captioned=lambda row: row % 7 == 1)
    more: dict[str, Any] = {"steps": 4, "augment": False, "seed": 1, "batch": {"size": 12, "chunk": 4}}
    model = {"image": {"head_dropout": 0.0}, "views": {**VIEWS, "head_dropout": 0.0}}
    config = small("sw-clip-views", **more, model=model)
    write_config(tmp_path / "mine.toml", config)
    command = ("train", tmp_path / "town", "--splits", data[1].path, "--recipe", tmp_path / "mine.toml")
    both = start_group(*[(tmp_path, (*command, "--out", tmp_path / "two"))] * 2, environment=environment)
    assert [code for code, _ in both] == [0, 0], both
    train(*data, config, tmp_path / "one")

    one, two = (load_file(tmp_path / run / "model" / "model.safetensors") for run in ("one", "two"))
    initial = LocatorModel.create(config.model, data[0].positions_deg, config.seed).state_dict()
    parts = ("image_tower", "image_head", "location.grid", "views.caption", "views.map", "views.log_weight")
    for part in (*parts, "logit_scale"):
        names = [name for name in one if name.startswith(part)]
        moved = sum((one[name] - initial[name]).square().sum().item() for name in names) ** 0.5
        apart = sum((one[name] - two[name]).square().sum().item() for name in names) ** 0.5
        assert moved > 1e-3, part
        assert apart < 1e-2 * moved, part
    logs = [
        [json.loads(line) for line in (tmp_path / run / "metrics.jsonl").read_text().splitlines()]
        for run in ("one", "two")
    ]
    for first, second in zip(*logs, strict=True):
        assert second == pytest.approx(first, rel=2e-3)
