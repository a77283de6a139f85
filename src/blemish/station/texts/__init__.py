"""The texts of the page: one file per language."""
