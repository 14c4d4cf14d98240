"""Converters: source rows → training rows. `python -m converters <source> INPUT…`; one thin file per source."""
