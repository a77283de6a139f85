"""What the commands do, as functions: fit, run, recalibrate, update, export, demo."""
