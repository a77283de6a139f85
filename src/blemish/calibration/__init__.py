"""Thresholds from the scores of good images, and decisions from predictions."""
