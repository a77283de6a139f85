"""Pixels to vectors: filter banks and networks that describe each place of an image."""
