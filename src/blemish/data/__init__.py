"""Data sets: finds categories and their samples in folders, decodes their images, and checks them."""

from __future__ import annotations

from blemish.data.category import Category, find_categories, hold_out

__all__ = ["Category", "find_categories", "hold_out"]
