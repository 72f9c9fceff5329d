"""Keypoint matchers: pairs of points of two photographs that show the same thing, and those that one geometry explains.

Any keypoint matching model of transformers (SuperPoint with LightGlue or SuperGlue, EfficientLoFTR), by its name on the
hub or a local folder. Two photographs of one scene are related by a fundamental matrix: the matches that it explains
are inliers (MAGSAC++ of OpenCV, `pip install "swclip[match]"`), and photographs of different scenes have few. It is a
second form of verification (`swclip.retrieval.verification`), more exact than patch features and far slower: the model
sees every pair of query and photograph.

References:
    P. Lindenberger, P.-E. Sarlin, M. Pollefeys, "LightGlue: local feature matching at light speed", ICCV 2023.
    D. Barath et al., "MAGSAC++, a fast, reliable and accurate robust estimator", CVPR 2020.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float64
from PIL import Image

from swclip.errors import ArtefactError, ConfigError, PackageError, first_line
from swclip.imaging.decode import PhotographError, decode_photograph
from swclip.models.download import hub_options
from swclip.models.towers import check_folder
from swclip.models.weights import weights_digest

THRESHOLD_PX = 3.0
"""Distance from the epipolar line up to which a match can be an inlier, pixels."""

_LEAST_MATCHES = 8  # that determine a fundamental matrix
_CONFIDENCE, _ROUNDS = 0.999, 10_000
_SEEN_PX = 640


def inliers(
    points: Float64[np.ndarray, "n 2"], others: Float64[np.ndarray, "n 2"], threshold_px: float = THRESHOLD_PX
) -> Bool[np.ndarray, " n"]:
    """The matches that one fundamental matrix explains; the same in each call.

    Args:
        points: (N, 2) points of one photograph, x and y in pixels.
        others: (N, 2) the points of the other photograph that match them.
        threshold_px: Largest distance from the epipolar line.

    Returns:
        (N,) whether each match is an inlier; none where there are fewer than 8.

    Raises:
        PackageError: OpenCV is not installed.
    """
    cv2 = _opencv()
    none = np.zeros(len(points), dtype=np.bool_)
    if len(points) < _LEAST_MATCHES:
        return none
    _, mask = cv2.findFundamentalMat(
        np.ascontiguousarray(points), np.ascontiguousarray(others), cv2.USAC_MAGSAC, threshold_px, _CONFIDENCE, _ROUNDS
    )
    return none if mask is None else np.asarray(mask).reshape(-1) > 0


def _opencv() -> Any:
    try:
        import cv2
    except ImportError as error:
        raise PackageError('keypoint matching needs OpenCV; install it with: pip install "swclip[match]"') from error
    return cv2


class KeypointMatcher:
    """A keypoint matching model.

    Attributes:
        name: Its name on the model hub or its folder.
        fingerprint: Identity of its weights and of its preprocessing.

    Args:
        name: A name on the model hub or a local folder, such as ETH-CVG/lightglue_superpoint.
        device: Device of the model.

    Raises:
        ConfigError: It cannot be loaded, is not saved as safetensors, or is no keypoint matching model.
        PackageError: OpenCV, which finds the inliers of its matches, is not installed.
    """

    def __init__(self, name: str, device: str | torch.device = "cpu") -> None:
        from transformers import AutoImageProcessor, AutoModelForKeypointMatching
        from transformers.utils import logging

        logging.disable_progress_bar()  # its bar would overwrite swclip's
        _opencv()
        self.name = name
        try:
            check_folder(Path(name))
            hub = {"trust_remote_code": False, **hub_options(name)}
            self._processor: Any = AutoImageProcessor.from_pretrained(name, **hub)
            model = AutoModelForKeypointMatching.from_pretrained(name, use_safetensors=True, **hub)
        except ArtefactError as error:
            raise ConfigError(str(error)) from error
        except Exception as error:  # of any class: the values of a folder's files reach all parts of transformers
            raise ConfigError(
                f"keypoint matcher {name!r}: cannot be loaded ({first_line(error)}); give a local folder, or a name on "
                "the hub that can be reached, of a keypoint matching model of transformers."
            ) from error
        self._model: Any = model.to(device).eval()
        settings = json.dumps(self._processor.to_dict(), sort_keys=True, default=str)
        self.fingerprint = weights_digest(model.state_dict(), settings)

    def to(self, device: str | torch.device) -> None:
        """Move the model to a device."""
        self._model.to(device)

    def match(
        self, picture: Image.Image, other: Image.Image
    ) -> tuple[Float64[np.ndarray, "n 2"], Float64[np.ndarray, "n 2"]]:
        """Matching points of two pictures, inliers or not.

        Args:
            picture: A picture.
            other: Another.

        Returns:
            (N, 2) points of each, x and y in its pixels.
        """
        inputs = self._processor([[picture, other]], return_tensors="pt").to(self._model.device)
        with torch.inference_mode():
            outputs = self._model(**inputs)
        for key in ("matches", "matching_scores"):  # without early stopping the two pictures are rows of their own
            outputs[key] = outputs[key].reshape(1, 2, -1)
        sizes = [[(picture.height, picture.width), (other.height, other.width)]]
        (result,) = self._processor.post_process_keypoint_matching(outputs, sizes)
        points, others = (result[key].double().cpu().numpy() for key in ("keypoints0", "keypoints1"))
        inside = np.ones(len(points), dtype=np.bool_)
        for values, (high, wide) in zip((points, others), sizes[0], strict=True):
            inside &= ((values >= 0) & (values < (wide, high))).all(axis=1)
        return points[inside], others[inside]


@dataclass(frozen=True, eq=False)
class KeypointVerifier:
    """A verifier (`swclip.gallery.patches.Verifier`) by keypoints: the logarithm of 1 + the number of inliers.

    Queries are given to it by their paths, as `PhotographVectors.details`.

    Attributes:
        matcher: The model.
        paths: The gallery's photographs by `image_id`.

    Example:
        ```python
        verifier = KeypointVerifier(KeypointMatcher("ETH-CVG/lightglue_superpoint"), paths)
        gallery = dataclasses.replace(gallery, verifier=verifier)
        vectors = dataclasses.replace(photograph_vectors(model, queries), details=tuple(queries))
        fit = fit_verification(vectors, truth_deg, gallery, fit, 10)
        p = log_posterior(vectors, gallery, fit.config)
        ```
    """

    matcher: KeypointMatcher
    paths: Mapping[str, str | os.PathLike[str]]

    def compare(self, query: str | os.PathLike[str], image_ids: Sequence[str]) -> Float64[np.ndarray, " n"]:
        """log(1 + inliers) of a query and each of N photographs, NaN where one has no path or cannot be decoded.

        Raises:
            InputError: The query cannot be decoded.
        """
        similarity = np.full(len(image_ids), np.nan)
        if not image_ids:
            return similarity
        picture = _reduced(query)
        for at, image_id in enumerate(image_ids):
            if image_id not in self.paths:
                continue
            try:
                other = _reduced(self.paths[image_id])
            except PhotographError:
                continue
            similarity[at] = np.log1p(inliers(*self.matcher.match(picture, other)).sum())
        return similarity


def _reduced(path: str | os.PathLike[str]) -> Image.Image:
    """A photograph with a longer side of at most 640 pixels, to which the threshold of inliers refers."""
    picture = decode_photograph(path)
    picture.thumbnail((_SEEN_PX, _SEEN_PX))
    return picture
