"""The loop of every detector that learns by gradient, and its checkpoints."""
