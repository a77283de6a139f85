"""The public names of `import blemish`: fit, load, evaluate, benchmark, report, and their results."""
