"""What a photograph that states no GPS accuracy is taken for."""

from __future__ import annotations

import logging

import numpy as np
from jaxtyping import Float64

from swclip.losses import TargetConfig

_LOG = logging.getLogger(__name__)


def fill_missing_accuracies(accuracy_m: Float64[np.ndarray, " n"], config: TargetConfig) -> Float64[np.ndarray, " n"]:
    """Accuracies of the training photographs, without gaps; how many were filled, and with what, is logged.

    Args:
        accuracy_m: (N,) 1-sigma accuracies in metres, NaN where unknown.
        config: `missing_accuracy` and `default_accuracy_m`.

    Returns:
        (N,) the same with the median of the known ones, or the default, in place of NaN. As they are without
        `gps_noise`, which is when nobody asks for them.

    Example:
        >>> fill_missing_accuracies(np.array([4.0, np.nan, 8.0]), TargetConfig(missing_accuracy="median")).tolist()
        [4.0, 6.0, 8.0]
    """
    missing = np.isnan(accuracy_m)
    if not config.gps_noise or not missing.any():
        return accuracy_m
    taken, why = config.default_accuracy_m, "the default"
    if config.missing_accuracy == "median":
        if missing.all():
            _LOG.warning(
                "none of the %d training photographs states an accuracy, so they have no median: the default is taken",
                len(accuracy_m),
            )
        else:
            taken, why = float(np.median(accuracy_m[~missing])), "the median of the others"
    _LOG.info(
        "%d of %d training photographs state no accuracy; %g m is taken, %s",
        missing.sum(),
        len(accuracy_m),
        taken,
        why,
    )
    return np.where(missing, taken, accuracy_m)
