"""One predictor: networks, calibration and photographs."""


def __getattr__(name: str):
    """`Predictor`, imported when it is first used: it loads torch."""
    if name == "Predictor":
        from facelib.prediction.predictor import Predictor

        return Predictor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
