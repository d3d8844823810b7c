"""Speed, memory and robustness, measured side by side; run as modules from the project's root."""

from pathlib import Path

ROBUSTNESS_RESULTS = Path("reports/robustness")
TRAINING_RESULTS = Path("reports/training")
EXPLAIN_RESULTS = Path("reports/explain")
EXTERNAL_RESULTS = Path("reports/external")
