"""What came of runs, in one file: read what they left, summarize it as plain data, render that."""
