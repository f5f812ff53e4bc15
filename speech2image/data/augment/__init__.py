"""Augmentation of speech: waveforms, log-mels, acoustic conditions."""
