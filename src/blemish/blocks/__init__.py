"""What two detectors share, and nothing else."""
