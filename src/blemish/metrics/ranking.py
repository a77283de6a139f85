"""Rankings, from which all metrics are computed: the sorted scores of each image, separately for good and anomalous
pixels.

Recall, overlap and precision can only rise at the score of an anomalous pixel, so only these scores are thresholds, and
good pixels are counted between them. An image score is ranked like a map of one pixel.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from blemish.metrics.counting import Counts, count_scores
from blemish.metrics.scores import (
    Array,
    MetricInputError,
    NotApplicable,
    all_finite,
    check_dtype,
    check_labels,
    first_not_finite,
    sort_keys,
    threshold_key,
    to_keys,
)
from blemish.parallel import map_ahead


@dataclass(frozen=True, slots=True)
class Regions:
    """The defects of one image with a separate mask each, as in MVTec LOCO; they may overlap."""

    masks: Sequence[Array]
    """One mask (H, W) per defect, nonzero inside the defect."""
    saturation_areas: Sequence[float]
    """Per defect the number of detected pixels from which on its overlap is 1; at most its area."""


Mask = Array | Regions | None
"""(H, W) of booleans or integers, nonzero at anomalous pixels; or `Regions`; None for a good image."""


@dataclass(frozen=True, slots=True)
class RegionPixels:
    """The pixels of the regions of one image: the keys of their scores, and their weights in the region's overlap."""

    keys: Array
    weights: NDArray[np.float64]
    num_regions: int


@dataclass(frozen=True, slots=True)
class ImageScores:
    """The scores of one image as integer keys (see `to_keys`), each array in ascending order."""

    good: Array
    anomalous: Array
    components: RegionPixels
    """The 8-connected components of the mask; the weights of each add up to 1."""
    saturated: RegionPixels
    """The defects with their saturation areas; the components if there are none."""

    @property
    def is_good(self) -> bool:
        """Whether no pixel is anomalous."""
        return self.anomalous.size == 0

    @property
    def num_pixels(self) -> int:
        """Number of pixels."""
        return self.good.size + self.anomalous.size


@dataclass(frozen=True)
class Ranking:
    """The sorted scores of a set of images, from `rank_pixels` or `rank_images`; the input of every metric."""

    images: tuple[ImageScores, ...]
    dtype: np.dtype[Any]
    unit: str = "pixel"
    """The ranked unit: "pixel" or "image"."""
    has_saturation_areas: bool = False

    @cached_property
    def num_good(self) -> int:
        """Number of good pixels in all images."""
        return sum(image.good.size for image in self.images)

    @cached_property
    def num_anomalous(self) -> int:
        """Number of anomalous pixels in all images."""
        return sum(image.anomalous.size for image in self.images)

    @cached_property
    def good_image_sizes(self) -> tuple[int, ...]:
        """Number of pixels of each good image."""
        return tuple(image.num_pixels for image in self.images if image.is_good)

    @cached_property
    def counts(self) -> Counts:
        """The numbers of pixels above and at each distinct score of an anomalous pixel.

        Raises:
            NotApplicable: No pixel is good, or none is anomalous.
        """
        self.require_both_classes()
        good_images = [image.good for image in self.images if image.is_good]
        mixed = [image.good for image in self.images if not image.is_good]
        return count_scores(np.concatenate([image.anomalous for image in self.images]), mixed, good_images)

    def require_both_classes(self) -> None:
        """Raise NotApplicable unless there are both good and anomalous pixels (or images)."""
        among = f"among {len(self.images)} images" if self.unit == "pixel" else f"among {len(self.images)}"
        if self.num_anomalous == 0:
            raise NotApplicable(f"no anomalous {self.unit} {among}")
        if self.num_good == 0:
            raise NotApplicable(f"no good {self.unit} {among}")

    def count_at(self, threshold: float) -> NDArray[np.int64]:
        """Return (n, 2): per image the numbers of good and of anomalous pixels that score at least the threshold."""
        key = threshold_key(threshold, self.dtype)
        if key is None:
            return np.zeros((len(self.images), 2), np.int64)
        pairs = [(image.good, image.anomalous) for image in self.images]
        return np.array([[keys.size - keys.searchsorted(key) for keys in pair] for pair in pairs], np.int64)


def rank_pixels(pairs: Iterable[tuple[Mask, ArrayLike]]) -> Ranking:
    """Rank the pixels of all images of a category, including good images.

    Args:
        pairs: (mask, map) per image; may be an iterator, which is consumed one pair at a time. The map (H, W) has
            any float or integer dtype of up to 64 bits, the same for all maps; higher means more anomalous. The
            mask (H, W) is nonzero at anomalous pixels, None for a good image, or `Regions` if the defects have
            saturation areas. Sizes may differ between images. The masked pixels of a masked array are ignored.

    Returns:
        The ranking. Its memory is one key of the score's size per pixel. Images are sorted in threads.

    Raises:
        MetricInputError: A map contains NaN or infinity, is not 2-D, is empty, or has another dtype than the
            first; a mask has another shape than its map, or is neither boolean nor integer; there is no image.
    """
    kinds: list[tuple[np.dtype[Any], bool]] = []
    images = tuple(map_ahead(_sort_image, _checked(pairs, kinds)))
    if not images:
        raise MetricInputError("there is no map to rank; at least one is needed")
    return Ranking(images, kinds[0][0], has_saturation_areas=any(has_areas for _, has_areas in kinds))


def rank_masks_and_maps(masks: Iterable[Mask], maps: Iterable[ArrayLike]) -> Ranking:
    """Rank masks and maps given as two lists, arrays (n, H, W) or iterators; otherwise as `rank_pixels`.

    Raises:
        MetricInputError: Their numbers differ, or as in `rank_pixels`.
    """
    return rank_pixels(_in_pairs(masks, maps))


def rank_images(labels: ArrayLike, scores: ArrayLike) -> Ranking:
    """Rank image scores.

    Args:
        labels: (n,) 1 or True for anomalous images.
        scores: (n,) of any float or integer dtype of up to 64 bits; higher means more anomalous.

    Raises:
        MetricInputError: The two differ in length, or a label or a score is not allowed.
    """
    anomalous, values = check_labels(labels), np.asarray(scores)
    if values.shape != anomalous.shape:
        raise MetricInputError(f"there are {anomalous.size} labels, but the scores have the shape {values.shape}")
    if values.size == 0:
        raise MetricInputError("there is no score to rank; at least one is needed")
    check_dtype(values.dtype, "the array of scores")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise MetricInputError(f"the scores hold {first_not_finite(values)}; only finite scores can be ranked")
    keys = to_keys(values)
    images = tuple(_one_pixel(keys[i : i + 1], bool(anomalous[i])) for i in range(keys.size))
    return Ranking(images, values.dtype, unit="image")


def _in_pairs(masks: Iterable[Mask], maps: Iterable[ArrayLike]) -> Iterator[tuple[Mask, ArrayLike]]:
    mask_iterator, map_iterator = iter(masks), iter(maps)
    missing = object()
    for index, mask in enumerate(mask_iterator):
        scores: Any = next(map_iterator, missing)
        if scores is missing:
            raise MetricInputError(f"there are only {index} maps for more masks; one per mask is needed")
        yield mask, scores
    if next(map_iterator, missing) is not missing:
        raise MetricInputError("there are more maps than masks; one mask per map is needed (None: a good image)")


def _check_map(values: Array, index: int, dtype: np.dtype[Any] | None) -> None:
    if values.ndim != 2 or values.size == 0:
        raise MetricInputError(f"map {index} has the shape {values.shape}; (height, width) is needed, not empty")
    check_dtype(values.dtype, f"map {index}")
    if dtype is not None and values.dtype.newbyteorder("=") != dtype.newbyteorder("="):
        raise MetricInputError(f"map {index} has the dtype {values.dtype}, those before {dtype}; use one for all")


def _check_mask(mask: ArrayLike, shape: tuple[int, ...], name: str) -> NDArray[np.bool_]:
    values = np.asarray(mask)
    if values.shape != shape:
        raise MetricInputError(f"{name} has the shape {values.shape}, its map {shape}; they must be the same")
    if values.dtype.kind not in "biu":
        raise MetricInputError(f"{name} has the dtype {values.dtype}; allowed are booleans and whole numbers")
    found: NDArray[np.bool_] = values != 0
    return found


@dataclass(frozen=True, slots=True)
class _Unsorted:
    """The validated scores of one image, copied from the input."""

    keys: Array
    """(H, W)."""
    defects: list[NDArray[np.bool_]]
    saturation_areas: Sequence[float] | None
    counted: NDArray[np.bool_] | None
    """(H, W): True for pixels that count; None if all do."""


def _checked(pairs: Iterable[tuple[Mask, ArrayLike]], kinds: list[tuple[np.dtype[Any], bool]]) -> Iterator[_Unsorted]:
    """The validated scores of each image; appends their dtype, and whether there are saturation areas, to `kinds`."""
    for index, (mask, scores) in enumerate(pairs):
        values = np.asarray(np.ma.getdata(scores))
        _check_map(values, index, kinds[0][0] if kinds else None)
        areas = tuple(mask.saturation_areas) if isinstance(mask, Regions) else None
        kinds.append((values.dtype, areas is not None))
        keys, defects = to_keys(values), _defect_masks(mask, values.shape, index)
        counted = ~np.ma.getmaskarray(scores) if np.ma.isMaskedArray(scores) else None
        if not all_finite(keys if counted is None else keys[counted], values.dtype):
            where = first_not_finite(np.ma.filled(scores, 0))
            raise MetricInputError(f"map {index} holds {where}; only finite scores can be ranked")
        yield _Unsorted(keys, defects if counted is None else [part & counted for part in defects], areas, counted)


def _sort_image(image: _Unsorted) -> ImageScores:
    """Split the scores of one image into good and anomalous pixels, without pixels that do not count, and sort both."""
    keys, counted = image.keys, image.counted
    union = np.logical_or.reduce(image.defects) if image.defects else None
    if union is None or not union.any():
        found = _without_defect(keys.reshape(-1) if counted is None else keys[counted])
    else:
        components = _component_pixels(union, keys)
        areas = image.saturation_areas
        saturated = components if areas is None else _saturated_pixels(areas, image.defects, keys)
        good = keys[~union] if counted is None else keys[~union & counted]
        found = ImageScores(good, keys[union], components, saturated)
    sort_keys(found.good)
    sort_keys(found.anomalous)
    return found


def _defect_masks(mask: Mask, shape: tuple[int, ...], index: int) -> list[NDArray[np.bool_]]:
    if mask is None:
        return []
    if not isinstance(mask, Regions):
        return [_check_mask(mask, shape, f"mask {index}")]
    if len(mask.masks) != len(mask.saturation_areas):
        raise MetricInputError(
            f"image {index} has {len(mask.masks)} defects and {len(mask.saturation_areas)} saturation areas"
        )
    masks = [_check_mask(m, shape, f"mask {index}, defect {i}") for i, m in enumerate(mask.masks)]
    for i, (single, area) in enumerate(zip(masks, mask.saturation_areas, strict=True)):
        if not single.any():
            raise MetricInputError(f"mask {index}, defect {i} marks no pixel; a defect needs one at least")
        if not area > 0:
            raise MetricInputError(f"saturation area {i} of image {index} is {area}; more than 0 is needed")
    return masks


def _without_defect(keys: Array) -> ImageScores:
    none = RegionPixels(keys[:0], np.zeros(0), 0)
    return ImageScores(keys, keys[:0], none, none)


def _one_pixel(key: Array, anomalous: bool) -> ImageScores:
    if not anomalous:
        return _without_defect(key)
    region = RegionPixels(key, np.ones(1), 1)
    return ImageScores(key[:0], key, region, region)


def _component_pixels(mask: NDArray[np.bool_], keys: Array) -> RegionPixels:
    """Return the anomalous pixels, each with the weight 1 / area of its 8-connected component."""
    import cv2

    num_labels, labels = cv2.connectedComponents(mask.view(np.uint8), connectivity=8)
    region = labels[mask]
    areas = np.bincount(region, minlength=num_labels)
    return RegionPixels(keys[mask], 1.0 / areas[region], num_labels - 1)


def _saturated_pixels(areas: Sequence[float], masks: list[NDArray[np.bool_]], keys: Array) -> RegionPixels:
    """Return the pixels of each defect; weights, in order of descending score, add up to 1 at the saturation area."""
    found, weights = [], []
    for mask, area in zip(masks, areas, strict=True):
        if not mask.any():  # none of its pixels counts
            continue
        pixels = np.sort(keys[mask])[::-1]
        needed = min(float(area), pixels.size)
        found.append(pixels)
        weights.append(np.clip(needed - np.arange(pixels.size), 0.0, 1.0) / needed)
    return RegionPixels(np.concatenate(found), np.concatenate(weights), len(found))
