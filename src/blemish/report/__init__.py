"""Reports: reading the results of runs, summarizing them as plain data, and rendering an HTML page."""
