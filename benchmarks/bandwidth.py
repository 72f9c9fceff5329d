"""The bandwidth estimated from the data, compared with a search over fixed bandwidths.

    swclip split cambridge --protocol new-streets --out new.parquet
    python benchmarks/bandwidth.py cambridge --splits new.parquet --name "Cambridge, new streets" --freeze image \\
        --image-tower towers/dinov2-small --text-tower none --steps 200 --batch-size 256 --out results/cambridge-new

Trains the recipe as shipped, whose bandwidth is estimated from the data (`found`), and with each bandwidth of
`--search` fixed, all else equal. The search chooses the bandwidth with the lowest log error of the *validation* queries
(the mean of log10(1 + error / 10 m) by location embeddings alone), as `swclip bandwidth --search` does. Both choices
are then evaluated on the queries by the mode, so that only the labels differ: differences are paired, with 95 %
intervals from resampling blocks of queries. The best bandwidth *on the queries*, which cannot be known beforehand, is
given too.

`--beside OUT ...` adds the results of other calls to the table and the figure. Finished runs in OUT/runs are not
trained again. Writes bandwidth.json, bandwidth.md, and a figure.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from common import STYLES, markdown, new_figure, save_figure, write_results
from trained_runs import difference_text, run, training_parser

from swclip.comparison.compare import compare
from swclip.data.manifest import read_manifest
from swclip.data.splits import read_splits
from swclip.evaluation.result import Evaluation
from swclip.files import read_json
from swclip.reporting.units import metres, percent
from swclip.training.bandwidth import BANDWIDTH_FILE

FOUND = "found"


def log_error(error_m: Any) -> float:
    """The score by which bandwidths are chosen: the mean of log10(1 + error / 10 m)."""
    return float(np.log10(1.0 + np.asarray(error_m) / 10.0).mean())


def validated(run_folder: Path) -> float:
    """The log error of the validation queries with the run's best weights."""
    lines = [json.loads(line) for line in (run_folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return min(float(line["val_log_error"]) for line in lines if line.get("val_log_error") is not None)


def measured(args: argparse.Namespace) -> dict[str, Any]:
    """Train and evaluate all bandwidths."""
    data = read_manifest(args.manifest), read_splits(args.splits)
    fixed = {
        f"{value:g} m": {"bandwidth__form": "fixed", "objective__targets__bandwidths_m": [value]}
        for value in sorted(set(args.search))
    }
    evaluations: dict[str, dict[int | str, Evaluation]] = {}
    validation: dict[str, list[float]] = {}
    used: list[dict[str, Any]] = []
    for name, more in {FOUND: {}, **fixed}.items():
        for seed in args.seeds:
            out = args.out / "runs" / f"{name.replace(' ', '')}-{seed}"
            values = {**more, "seed": seed}
            evaluation = run(args, args.recipe, values, data, data, out, name)
            evaluations.setdefault(name, {})[seed] = evaluation
            validation.setdefault(name, []).append(validated(out))
            if name == FOUND:
                used.append(read_json(out / BANDWIDTH_FILE, "the bandwidth"))
    document = compare(evaluations, {}, baseline=FOUND).document.as_dict()
    rows = {}
    for name, system in document["systems"].items():
        errors = [evaluation.predictions["error_m"].to_numpy() for evaluation in evaluations[name].values()]
        rows[name] = {
            "bandwidth_m": float(np.mean([record["base_m"] for record in used])) if name == FOUND else float(name[:-2]),
            "validation_log_error": float(np.mean(validation[name])),
            "query_log_error": float(np.mean([log_error(error_m) for error_m in errors])),
            "error_m": system["mean"]["error_m"],
            "accuracy_within_m": system["mean"]["accuracy_within_m"],
            "intervals": system["mean"]["intervals"],
            "difference_from_found": system.get("difference"),
        }
    searched = [name for name in rows if name != FOUND]
    return {
        "name": args.name,
        "recipe": args.recipe,
        "seeds": args.seeds,
        "validation_queries": int((data[1].frame["split"] == "val").sum()),
        "queries": int((data[1].frame["split"] == "query").sum()),
        "form": used[0]["used"],
        "found_m": [record["base_m"] for record in used],
        "noise_m": used[0].get("noise_m", 0.0),
        "chosen": min(searched, key=lambda name: rows[name]["validation_log_error"]),
        "best_on_queries": min(searched, key=lambda name: rows[name]["query_log_error"]),
        "rows": rows,
    }


def summary(documents: list[dict[str, Any]]) -> str:
    """The short table: estimated, chosen on validation, and their errors on the queries."""
    columns = ["data", "found", "validation chooses", "best on the queries"]
    columns += ["median, found", "median, chosen", "chosen less found: median", "mean", "log error"]
    rows = []
    for document in documents:
        of, chosen = document["rows"], document["rows"][document["chosen"]]
        difference = chosen["difference_from_found"]
        rows.append(
            [
                document["name"],
                f"{of[FOUND]['bandwidth_m']:.1f} m ({document['form']})",
                document["chosen"],
                document["best_on_queries"],
                metres(of[FOUND]["error_m"]["median"]),
                metres(chosen["error_m"]["median"]),
                *(difference_text(difference[key]) for key in ("median", "mean")),
                f"{chosen['query_log_error'] - of[FOUND]['query_log_error']:+.3f}",
            ]
        )
    return markdown(columns, rows)


def details(document: dict[str, Any]) -> str:
    """All bandwidths of one data set; the one that validation chooses in bold."""
    columns = ["bandwidth", "validation log error", "query log error", "median", "mean", "within 25 m", "within 100 m"]
    rows = []
    for name, row in document["rows"].items():
        label = f"{FOUND}: {row['bandwidth_m']:.1f} m" if name == FOUND else name
        error, within = row["error_m"], row["accuracy_within_m"]
        rows.append(
            [
                f"**{label}**" if name == document["chosen"] else label,
                f"{row['validation_log_error']:.4f}",
                f"{row['query_log_error']:.4f}",
                *(metres(error[key]) for key in ("median", "mean")),
                *(percent(within[key]) for key in ("25", "100")),
                *("" if row["difference_from_found"] is None else difference_text(row["difference_from_found"][key])
                  for key in ("median", "mean")),
            ]
        )  # fmt: skip
    counts = f"{document['validation_queries']:,} validation queries, {document['queries']:,} queries"
    return f"**{document['name']}** ({counts})\n\n" + markdown([*columns, "median vs found", "mean vs found"], rows)


def draw(documents: list[dict[str, Any]], path: Path) -> None:
    """Log error of queries and validation by bandwidth, the estimated one as a star; one panel per data set."""
    figure, panels = new_figure(3.1 * len(documents) + 0.6, 3.9, max(2, len(documents)))
    for spare in panels[len(documents) :]:
        spare.set_visible(False)
    for panel, document in zip(panels, documents, strict=False):
        searched = [row for name, row in document["rows"].items() if name != FOUND]
        x = [row["bandwidth_m"] for row in searched]
        for (colour, marker), key, label in zip(
            STYLES, ("query_log_error", "validation_log_error"), ("queries", "validation"), strict=False
        ):
            star = document["rows"][FOUND]
            panel.plot(x, [row[key] for row in searched], color=colour, marker=marker, markersize=5, label=label)
            panel.plot(star["bandwidth_m"], star[key], "*", color=colour, markersize=14, markeredgecolor="white")
        panel.axvline(document["rows"][FOUND]["bandwidth_m"], color="#5c677d", linestyle=":", linewidth=1.2, zorder=1)
        panel.set_xscale("log")
        panel.set_xticks(x, [f"{value:g}" for value in x], fontsize=8)
        panel.minorticks_off()
        panel.set_title(document["name"], loc="left", fontsize=10)
        panel.set_xlabel("bandwidth, m", fontsize=9)
    panels[0].set_ylabel("mean of log10(1 + error / 10 m)", fontsize=9)
    panels[0].legend(frameon=False, fontsize=8)
    save_figure(figure, path)


def main() -> None:
    """Run one data set, and write the results with those of other calls."""
    parser = training_parser(__doc__)
    parser.add_argument("--name", required=True, help="name of the data and the split, for tables and figure")
    parser.add_argument("--recipe", default="sw-clip")
    parser.add_argument("--search", type=float, nargs="+", default=[7.5, 15, 30, 60, 120], help="metres")
    parser.add_argument("--beside", type=Path, nargs="*", default=[], help="output folders of other calls")
    args = parser.parse_args()
    result = measured(args)
    others = [read_json(folder / "bandwidth.json", "a bandwidth comparison") for folder in args.beside]
    documents = [*others, result]
    text = "\n".join([summary(documents), *map(details, documents)])
    draw(documents, args.out / "bandwidth")
    write_results(args.out, "bandwidth", result, text)


if __name__ == "__main__":
    main()
