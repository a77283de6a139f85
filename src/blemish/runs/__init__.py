"""The commands as functions: fit, run, evaluate, recalibrate, update, export, demo."""
