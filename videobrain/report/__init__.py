"""A run as something to look at: one self-contained HTML page, and a card for notebooks."""

from videobrain.report.notebook import notebook_html
from videobrain.report.page import render_report, save_report

__all__ = ["notebook_html", "render_report", "save_report"]
