"""Bare answers of another tool beside others: what only one of them has is left out, and nothing breaks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

import swclip
from swclip.comparison.page import write_benchmark_page
from swclip.evaluation.measure import MeasureConfig
from swclip.geo.coordinates import LocalFrame

QUICK = MeasureConfig(resamples=20)


def test_answers_with_and_without_a_gallery_are_compared(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    frame = LocalFrame(53.8, -1.55)
    truth_m = generator.uniform(-300.0, 300.0, (40, 2))
    truth = frame.to_deg(truth_m)
    ids = [f"q{row}" for row in range(40)]

    def answers(off_m: float) -> pd.DataFrame:
        predicted = frame.to_deg(truth_m + generator.normal(scale=off_m, size=truth_m.shape))
        columns = {"lat": truth[:, 0], "lon": truth[:, 1], "pred_lat": predicted[:, 0], "pred_lon": predicted[:, 1]}
        return pd.DataFrame({"image_id": ids, **columns})

    gallery = pd.DataFrame({"lat": truth[:, 0], "lon": truth[:, 1]})
    gallery_file = tmp_path / "gallery.csv"
    gallery.to_csv(gallery_file, index=False)
    near = swclip.evaluate_predictions(answers(10.0), config=QUICK)
    far = swclip.evaluate_predictions(answers(200.0), gallery=gallery_file, config=QUICK)
    for reports in ({"near": near, "far": far}, {"near": near, "again": swclip.evaluate_predictions(answers(9.0))}):
        comparison = swclip.compare(reports, resamples=20)
        assert comparison.document["systems"]["near"]["mean"]["error_m"] == near.report.error_m.model_dump()
        assert (comparison.document["curves"]["floor"] is None) == ("far" not in reports)
        page = tmp_path / "page.html"
        write_benchmark_page(page, comparison, title="both")
        assert "NaN" not in page.read_text(encoding="utf-8").split('id="data">')[1].split("</script>")[0]
