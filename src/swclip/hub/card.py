"""The model card: README.md of a published model, from the records of its run and its evaluation reports.

The card makes no claims that were not recorded or measured, and states which facts are unknown.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from huggingface_hub import ModelCardData

from swclip.evaluation.report import Report
from swclip.hub.evaluations import (
    TASK,
    calibration_text,
    district_table,
    error_table,
    eval_results,
    protocol_of,
    query_text,
    recall_text,
)
from swclip.hub.provenance import Area, Tower, TrainingData
from swclip.models.config import UNTRAINED_TOWER
from swclip.models.download import SCHEME
from swclip.models.onnx_tower import ONNX
from swclip.reporting.page import Cell, Row, Table, table_markdown
from swclip.reporting.units import metres
from swclip.training.config import TrainingConfig, recipe_names
from swclip.training.run import RunFacts
from swclip.versions import own_version

_TAGS = ["geo-localization", "street-view", "clip", "arxiv:2604.04357"]
_MAX_AREAS = 50
_MAX_LISTED = 10


@dataclass(frozen=True)
class CardFacts:
    """The content of a model card.

    Attributes:
        repo_id: Repository, owner/name.
        fingerprint: Fingerprint of the published model.
        facts: Record of the run.
        config: Training configuration without paths.
        towers: Pretrained towers that initialised the model.
        data: Training data; None if it is unknown.
        reports: Evaluation reports.
        licence: Identifier of the licence; None if none is stated.
        base_models: Hub names of towers that were read from a local folder.
        datasets: Hub names of training data sets.
        bank: Number of photographs in the query bank; 0 for none.
        cells: Number of cells in the vocabulary; 0 for none.
        regions: Whether prediction regions are calibrated.
    """

    repo_id: str
    fingerprint: str
    facts: RunFacts
    config: TrainingConfig
    towers: Sequence[Tower]
    data: TrainingData | None
    reports: Sequence[Report] = ()
    licence: str | None = None
    base_models: Sequence[str] = ()
    datasets: Sequence[str] = ()
    bank: int = 0
    cells: int = 0
    regions: bool = False


def model_card(card: CardFacts) -> str:
    """Render README.md: metadata as YAML, and the text.

    Args:
        card: Content of the card.
    """
    import jinja2

    folder = resources.files("swclip.hub") / "templates"
    environment = jinja2.Environment(
        autoescape=False,  # Markdown; `plain` escapes text of users
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    text = environment.from_string((folder / "card.md.j2").read_text(encoding="utf-8")).render(_values(card))
    text = re.sub(r"\n{3,}", "\n\n", text).strip()
    return f"---\n{metadata(card).to_yaml().strip()}\n---\n\n{text}\n"


def metadata(card: CardFacts) -> ModelCardData:
    """Return the metadata for the hub: licence, tags, towers, data, and each figure with its protocol."""
    results = [result for report in card.reports for result in eval_results(report)]
    bases = [tower.name for tower in card.towers if tower.origin == "hub"] + list(card.base_models)
    return ModelCardData(
        license=card.licence,
        library_name="swclip",
        pipeline_tag=TASK,
        tags=list(_TAGS),
        base_model=list(dict.fromkeys(bases)) or None,
        datasets=list(card.datasets) or None,
        metrics=list(dict.fromkeys(result.metric_type for result in results)) or None,
        model_name=card.repo_id.rpartition("/")[2] if results else None,
        eval_results=results or None,
    )


def plain(text: str) -> str:
    """Escape text of users for one line of Markdown.

    Example:
        >>> plain("St. Ives\\n <b>x</b> `y`")
        'St. Ives \\\\<b>x\\\\</b> \\\\`y\\\\`'
    """
    return re.sub(r"([\\\\`*_\[\]<#])", r"\\\1", " ".join(text.split()))


def _values(card: CardFacts) -> dict[str, Any]:
    facts, data = card.facts, card.data
    return {
        "title": plain(card.repo_id.rpartition("/")[2]),
        "name": f"{SCHEME}{card.repo_id}",
        "version": own_version(),
        "fingerprint": card.fingerprint,
        "dim": card.config.model.embedding_dim,
        # The name of a user's recipe file is private.
        "recipe": f"by the recipe `{facts.system}` " if facts.system in recipe_names() else "",
        "where": _where(data),
        "data_text": _data_text(data),
        "area_table": _area_table(data.areas) if data is not None and len(data.areas) <= _MAX_AREAS else "",
        "data_lines": _data_lines(data),
        "manifest_digest": facts.manifest_digest[:12],
        "splits_digest": facts.splits_digest[:12],
        "training_text": _training_text(card),
        "evaluations": [_evaluation(report) for report in card.reports],
        "validation_text": _validation_text(facts),
        "confidence_text": _confidence_text(card.regions),
        "bank": f"{card.bank:,}" if card.bank else "",
        "cells": f"{card.cells:,}" if card.cells else "",
        "licence_text": _licence_text(card.licence),
        "tower_lines": _tower_lines(card),
        "hidden": any(tower.origin == "local folder" for tower in card.towers),
        "versions": ", ".join(f"{name} {value}" for name, value in facts.versions.items() if name != "swclip"),
    }


def _where(data: TrainingData | None) -> str:
    names = [plain(area.city) for area in data.areas if area.city] if data is not None else []
    if not names:
        return "one area"
    return ", ".join(names) if len(names) <= 8 else f"{len(names)} cities"


def _data_text(data: TrainingData | None) -> str:
    if data is None:
        return "Photographs of unstated number, place and time: the manifest was not available for this card."
    validation = (
        f"; {data.validation:,} more selected the best weights and fitted the probabilities" if data.validation else ""
    )
    protocol = f" Queries were held out by the protocol `{data.protocol}`." if data.protocol else ""
    return f"{data.photographs:,} photographs{validation}.{protocol}"


def _area_table(areas: Sequence[Area]) -> str:
    rows = [
        Row(
            [
                Cell(plain(area.city) if area.city else "(no city)"),
                Cell(f"{area.photographs:,}"),
                Cell(f"{area.south_deg:.2f} to {area.north_deg:.2f}"),
                Cell(f"{area.west_deg:.2f} to {area.east_deg:.2f}"),
            ]
        )
        for area in areas
    ]
    return table_markdown(Table(["city", "photographs", "latitude (deg)", "longitude (deg)"], rows))


def _data_lines(data: TrainingData | None) -> list[str]:
    if data is None:
        return []
    lines = []
    if data.first is not None:
        period = data.first if data.first == data.last else f"from {data.first} to {data.last}"
        share = "" if data.dated == data.photographs else f" ({data.dated:,} of them state a time)"
        lines.append(f"Taken {period}{share}.")
    else:
        lines.append("Capture times are not recorded.")
    lines.append(f"Licences of the photographs: {_listed(data.licences)}.")
    if any(name for name, _ in data.sources):
        lines.append(f"Their sources: {_listed(data.sources)}.")
    if data.authors:
        authors = "One author is" if data.authors == 1 else f"{data.authors:,} authors are"
        lines.append(f"{authors} stated; the photographs are not part of the model.")
    return lines


def _listed(counts: Sequence[tuple[str | None, int]]) -> str:
    listed = [f"{plain(name) if name else 'not recorded'} ({count:,})" for name, count in counts[:_MAX_LISTED]]
    return ", ".join([*listed, *([f"{len(counts) - len(listed)} others"] if len(counts) > len(listed) else [])])


def _training_text(card: CardFacts) -> str:
    config = card.config
    text = f"{config.steps:,} steps with batches of {config.batch.size}, seed {config.seed}"
    if config.freeze_image:
        text += ", the image tower frozen"
    if config.model.image.crop == "whole":
        text += "; the image tower sees whole photographs in their shape"
    targets = config.objective.targets
    recorded = card.facts.figures.get("bandwidth") or {"used": "fixed", "bandwidths_m": targets.bandwidths_m}
    if targets.alpha > 0.0:
        bandwidths = " and ".join(metres(float(value)) for value in recorded["bandwidths_m"])
        text += f"; soft labels with kernel {targets.kernel}, bandwidth {bandwidths} ({recorded['used']})"
    return f"{text}."


def _evaluation(report: Report) -> dict[str, Any]:
    title = "Validation queries" if report.on == "val" else "Queries"
    texts = [recall_text(report), district_table(report), calibration_text(report)]
    return {
        "title": f"{title}, {protocol_of(report)}",
        "queries": query_text(report),
        "errors": error_table(report),
        "texts": [text for text in texts if text],
    }


def _validation_text(facts: RunFacts) -> str:
    figures = facts.figures.get("val_posterior")
    if not figures:
        return ""
    return (
        f"At the end of training, {figures['n_queries']:,} validation queries were answered with a median error of "
        f"{metres(figures['median_error_m'])} and a mean of {metres(figures['mean_error_m'])}. These queries selected "
        "the weights and fitted the probabilities, so the figures are optimistically biased."
    )


def _confidence_text(regions: bool) -> str:
    if regions:
        return (
            "Probabilities and prediction regions are calibrated on validation queries from the same area. They are "
            "not valid elsewhere, and a photograph from elsewhere may get an answer with high confidence."
        )
    return (
        "Probabilities are not calibrated (there were no validation queries), and answers have no prediction regions."
    )


def _licence_text(licence: str | None) -> str:
    if licence is None:
        return "None is stated. Ask the owner before you use, change or redistribute the model."
    return f"The model: `{licence}`. The licences of the components below apply as well."


def _tower_lines(card: CardFacts) -> list[str]:
    lines = []
    for tower in card.towers:
        if tower.origin == "built in":
            how = "trained from scratch" if tower.name == UNTRAINED_TOWER else "trained on generated cities"
            lines.append(f"{tower.side.capitalize()} tower: `{tower.name}`, built into swclip, {how}.")
        elif tower.origin == "hub":
            licence = tower.licence or "licence not known"
            lines.append(f"{tower.side.capitalize()} tower: initialised from `{tower.name}`, {licence}.")
        else:
            family = tower.public_name.partition(":")[2]
            source = f"initialised from a local folder ({family})"
            if family == ONNX:
                source = "an ONNX file, which this model contains and onnxruntime runs"
            lines.append(f"{tower.side.capitalize()} tower: {source}, licence not known.")
    if card.base_models:
        names = ", ".join(f"`{name}`" for name in card.base_models)
        lines.append(f"The publisher states that it builds on {names}.")
    return lines
