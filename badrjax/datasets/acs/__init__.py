"""American Community Survey: five prediction problems on persons in the United States, 2014-2018."""

from badrjax.datasets.acs.entries import ENTRIES

__all__ = ["ENTRIES"]
