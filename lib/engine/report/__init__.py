"""The static report: a verdict matrix, a page per paper, the executed notebooks, and the README's table.

Everything is read from the cards and from what the last audits kept; nothing is run here.
"""

from lib.engine.report.readme import readme_table, update_readme
from lib.engine.report.site import build_site

__all__ = ["build_site", "readme_table", "update_readme"]
