"""A reference analysis of facial demographics."""

import os

# Threads that wait for a slower one sleep (`python -m benchmarks.threads`). OpenMP reads it when torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
