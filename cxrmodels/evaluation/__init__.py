"""Metrics with intervals, calibration, and the stored predictions they are computed from. No TensorFlow."""
