"""How data sets lie on disk: one file and one line per layout."""
