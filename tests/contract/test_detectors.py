"""Every registered detector keeps the contract; a new one is picked up from the registry."""

from __future__ import annotations

import pytest
from detector_contract import *  # noqa: F403 - its tests and fixtures become those of this file

from blemish.detectors import DETECTORS

pytestmark = pytest.mark.parametrize("name", sorted(DETECTORS))
