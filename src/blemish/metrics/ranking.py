"""What every metric is computed from: the scores of each image, sorted once, good pixels and anomalous ones
apart.

Only the score of an anomalous pixel is a threshold at which recall, overlap and precision can rise, so the
good pixels are merely counted between those thresholds. Images and pixels are ranked alike: an image score is
a map of one pixel.
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
    """The defects of one image, each with a mask of its own, as MVTec LOCO marks them; they may overlap."""

    masks: Sequence[Array]
    """One (H, W) mask per defect, nonzero where it lies."""
    saturation_areas: Sequence[float]
    """Pixels of each defect that have to be found to have found all of it; at most its area counts."""


Mask = Array | Regions | None
"""(H, W) boolean or whole numbers, nonzero where anomalous; or the single defects; None for a good image."""


@dataclass(frozen=True, slots=True)
class RegionPixels:
    """The pixels of the regions of one image: what each adds to its region's overlap once it is found."""

    keys: Array
    weights: NDArray[np.float64]
    num_regions: int


@dataclass(frozen=True, slots=True)
class ImageScores:
    """The scores of one image as ordered keys, each array sorted upwards."""

    good: Array
    anomalous: Array
    components: RegionPixels
    """The 8-connected components of the mask, each of weight one in all."""
    saturated: RegionPixels
    """The defects with their saturation areas; the components where none are given."""

    @property
    def is_good(self) -> bool:
        """Whether no pixel is anomalous."""
        return self.anomalous.size == 0

    @property
    def num_pixels(self) -> int:
        """Good and anomalous pixels."""
        return self.good.size + self.anomalous.size


@dataclass(frozen=True)
class Ranking:
    """The sorted scores of a set of images: made by `rank_pixels` or `rank_images`, read by every metric."""

    images: tuple[ImageScores, ...]
    dtype: np.dtype[Any]
    unit: str = "pixel"
    """What is ranked: "pixel" or "image"."""
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
        """How many pixels lie at and above each distinct score of an anomalous pixel.

        Raises:
            NotApplicable: No pixel is good, or none is anomalous.
        """
        self.require_both_classes()
        good_images = [image.good for image in self.images if image.is_good]
        mixed = [image.good for image in self.images if not image.is_good]
        return count_scores(np.concatenate([image.anomalous for image in self.images]), mixed, good_images)

    def require_both_classes(self) -> None:
        """Raise NotApplicable unless there are good pixels (images) and anomalous ones."""
        among = f"among {len(self.images)} images" if self.unit == "pixel" else f"among {len(self.images)}"
        if self.num_anomalous == 0:
            raise NotApplicable(f"no anomalous {self.unit} {among}")
        if self.num_good == 0:
            raise NotApplicable(f"no good {self.unit} {among}")

    def count_at(self, threshold: float) -> NDArray[np.int64]:
        """Return per image the good and the anomalous pixels that score at least the threshold: (n, 2)."""
        key = threshold_key(threshold, self.dtype)
        if key is None:
            return np.zeros((len(self.images), 2), np.int64)
        pairs = [(image.good, image.anomalous) for image in self.images]
        return np.array([[keys.size - keys.searchsorted(key) for keys in pair] for pair in pairs], np.int64)


def rank_pixels(pairs: Iterable[tuple[Mask, ArrayLike]]) -> Ranking:
    """Rank the pixels of a category: good images included, each map at its file's own size.

    Args:
        pairs: (mask, map) per image, taken one at a time, so that an iterator that reads files will do. The
            map is (H, W), higher where more anomalous, of any float or whole-number dtype up to 64 bits, the
            same for all maps. The mask is (H, W), nonzero where anomalous; None for a good image; `Regions`
            where each defect has a mask and a saturation area. The sizes may differ from image to image. Of a
            map that is a masked array the masked pixels do not count.

    Returns:
        The ranking. It holds each score once, at its own width, and nothing else that grows with the images. Images
        are sorted in threads while the next ones are taken.

    Raises:
        MetricInputError: A map holds NaN or infinity, is not 2-D, is empty or has another dtype than the
            first; a mask has another shape than its map or is neither boolean nor whole numbers; there is no
            image.
    """
    kinds: list[tuple[np.dtype[Any], bool]] = []
    images = tuple(map_ahead(_sort_image, _checked(pairs, kinds)))
    if not images:
        raise MetricInputError("there is no map to rank; at least one is needed")
    return Ranking(images, kinds[0][0], has_saturation_areas=any(has_areas for _, has_areas in kinds))


def rank_masks_and_maps(masks: Iterable[Mask], maps: Iterable[ArrayLike]) -> Ranking:
    """Rank masks and maps that come apart: lists, stacked or memory-mapped (n, H, W) arrays, iterators.

    Raises:
        MetricInputError: There are more of one than of the other, or as `rank_pixels`.
    """
    return rank_pixels(_in_pairs(masks, maps))


def rank_images(labels: ArrayLike, scores: ArrayLike) -> Ranking:
    """Rank image scores.

    Args:
        labels: (n,) 1 or True where the image is anomalous.
        scores: (n,) higher where more anomalous; any float or whole-number dtype up to 64 bits.

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
    """The scores of one image, checked, and nothing that shares memory with what was given."""

    keys: Array
    """(H, W)."""
    defects: list[NDArray[np.bool_]]
    saturation_areas: Sequence[float] | None
    counted: NDArray[np.bool_] | None
    """(H, W): the pixels that count; None where all do."""


def _checked(pairs: Iterable[tuple[Mask, ArrayLike]], kinds: list[tuple[np.dtype[Any], bool]]) -> Iterator[_Unsorted]:
    """Each image's scores; their dtype, and whether there are saturation areas, is added to `kinds` on the way."""
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
    """Split the scores of one image into good and anomalous pixels, those that count, and sort both."""
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
    """Weigh each pixel by one over the area of its 8-connected component."""
    import cv2

    num_labels, labels = cv2.connectedComponents(mask.view(np.uint8), connectivity=8)
    region = labels[mask]
    areas = np.bincount(region, minlength=num_labels)
    return RegionPixels(keys[mask], 1.0 / areas[region], num_labels - 1)


def _saturated_pixels(areas: Sequence[float], masks: list[NDArray[np.bool_]], keys: Array) -> RegionPixels:
    """Weigh the pixels of each defect, highest score first, to add up to one at its saturation area."""
    found, weights = [], []
    for mask, area in zip(masks, areas, strict=True):
        if not mask.any():  # nothing of it counts
            continue
        pixels = np.sort(keys[mask])[::-1]
        needed = min(float(area), pixels.size)
        found.append(pixels)
        weights.append(np.clip(needed - np.arange(pixels.size), 0.0, 1.0) / needed)
    return RegionPixels(np.concatenate(found), np.concatenate(weights), len(found))
