"""Predicting with a fitted detector: the inspector, its backends, and the files that `blemish predict` writes."""
