"""Thin scripts that rerun the papers' tables: they choose settings and call the package."""
