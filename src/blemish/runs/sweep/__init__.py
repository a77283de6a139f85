"""Sweeps: searching the options of a method without ever choosing by the test set that is reported."""
