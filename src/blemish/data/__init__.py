"""Data sets: a folder of images, read as categories of samples."""

from __future__ import annotations

from blemish.data.category import Category, find_categories, hold_out

__all__ = ["Category", "find_categories", "hold_out"]
