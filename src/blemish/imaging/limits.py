"""How large an image file may be, checked before memory is taken. It imports nothing, for the command line's sake."""

MAX_PIXELS = 200_000_000
"""Of an image, unless another limit is given."""
BYTES_PER_PIXEL = 16
"""Of a file at most: four bands of float."""
HEADERS = 64 << 20
"""Bytes that a file may have beside its pixels."""
