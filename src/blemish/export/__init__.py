"""Exporting a fitted detector to graphs for other runtimes."""
