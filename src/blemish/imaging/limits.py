"""Limits on the size of image files, checked before memory is allocated.

The module imports nothing, so that the command line starts quickly.
"""

MAX_PIXELS = 200_000_000
"""Largest number of pixels of an image, unless another limit is given."""
BYTES_PER_PIXEL = 16
"""Largest number of bytes per pixel in a file: four channels of float32."""
HEADERS = 64 << 20
"""Largest number of bytes in a file beside its pixels."""
