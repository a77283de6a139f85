"""A fitted detector as a graph that other runtimes run."""
