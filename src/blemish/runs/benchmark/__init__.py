"""Benchmarks: methods x categories x seeds x sizes, each a cell that is computed once, and their tables."""
