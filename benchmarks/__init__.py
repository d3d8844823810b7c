"""Side-by-side measurements of speed and memory; run as modules from the project's root."""

from pathlib import Path

AUDIT_RESULTS = Path("reports/audit")  # where the audit's benchmarks leave what they measured
TRAINING_RESULTS = Path("reports/training")  # ... and those of the training recipes
ROBUSTNESS_RESULTS = Path("reports/robustness")  # where those of bad input and interruptions do
EXPLAIN_RESULTS = Path("reports/explain")  # where that of LIME does
EXTERNAL_RESULTS = Path("reports/external")  # ... and those of photographs from outside
PROTOCOL_RESULTS = Path("reports/protocols")  # ... and runs by published lists and by several seeds
