"""Bytes to pixels and back: decoders, preprocessing, regions of interest, tiles, alignment."""
