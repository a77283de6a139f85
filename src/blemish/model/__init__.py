"""A fitted detector on disk."""
