"""The training loop of all detectors that learn by gradient descent, and its checkpoints."""
