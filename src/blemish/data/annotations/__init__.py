"""Annotations of other programs: one module per format, and a line in `importing.FORMATS`."""
