"""Images: decoding files, preprocessing for a detector, regions of interest, tiles, registration."""
