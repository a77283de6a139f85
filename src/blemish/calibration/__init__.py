"""Pure functions: from scores of good images to thresholds, from a prediction to a decision."""
