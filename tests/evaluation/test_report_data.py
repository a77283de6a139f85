"""What a run keeps of its pictures, however odd they are."""

from __future__ import annotations

import json

import numpy as np
import pytest

from blemish.inference.previews import MOST_POLYGONS, outline_of


def test_a_mask_of_countless_specks_is_drawn_by_its_longest_edges():
    mask = np.random.default_rng(0).random((600, 800)) < 0.02
    mask[100:200, 100:300] = True
    outline = outline_of(mask)
    assert len(outline) == MOST_POLYGONS
    assert len(json.dumps(outline)) < 100_000
    assert np.ptp(np.reshape(outline[0], (-1, 2)), axis=0) == pytest.approx(
        [200 * 4096 / 800, 100 * 4096 / 800], rel=0.1
    )
