"""One predictor: networks, calibration and photographs."""
