"""Augmentation, network, training, out-of-fold prediction, calibration and age stages."""
