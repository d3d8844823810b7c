"""What was tried and how good the parts are, measured; run as modules from the project's root."""

from pathlib import Path

AUDIT_RESULTS = Path("reports/audit")
TRAINING_RESULTS = Path("reports/training")
EXTERNAL_RESULTS = Path("reports/external")
PROTOCOL_RESULTS = Path("reports/protocols")
CROSS_DATA_RESULTS = Path("reports/cross_data")
CROSSFIT_RESULTS = Path("reports/crossfit")
