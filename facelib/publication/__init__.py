"""Publishing and restoring runs, and the published numbers of others."""
