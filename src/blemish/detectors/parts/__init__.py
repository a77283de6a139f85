"""Parts that several detectors share: memory bank, Gaussians, encoder and decoder, synthetic defects."""
