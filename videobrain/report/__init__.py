"""Runs as something to look at: self-contained HTML pages, and a card for notebooks."""

from videobrain.report.notebook import notebook_html
from videobrain.report.overview import ReportEntry, save_reports
from videobrain.report.page import render_report, save_report

__all__ = ["ReportEntry", "notebook_html", "render_report", "save_report", "save_reports"]
