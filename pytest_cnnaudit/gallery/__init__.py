"""Records in, a static page out. Knows neither models nor pytest."""

from pytest_cnnaudit.gallery.report import Report, ReportFolderError
from pytest_cnnaudit.gallery.images import save_png

__all__ = ["Report", "ReportFolderError", "save_png"]
