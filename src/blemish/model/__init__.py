"""A fitted detector on disk: reading and writing its folder."""
