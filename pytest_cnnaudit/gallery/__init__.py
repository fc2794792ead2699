"""Records in, a static page out. Knows neither models nor pytest."""

from pytest_cnnaudit.gallery.images import save_png
from pytest_cnnaudit.gallery.report import Report, ReportFolderError, check_folder

__all__ = ["Report", "ReportFolderError", "check_folder", "save_png"]
