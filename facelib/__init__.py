"""Reference analysis of age, gender and ethnicity prediction from faces."""
