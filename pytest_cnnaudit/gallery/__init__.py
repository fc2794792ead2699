"""Records in, a static page out. Knows neither models nor pytest."""

from pytest_cnnaudit.gallery.images import PictureFiles
from pytest_cnnaudit.gallery.report import Report, ReportFolderError, check_folder
from pytest_cnnaudit.gallery.scribe import Scribe, with_pictures

__all__ = ["PictureFiles", "Report", "ReportFolderError", "Scribe", "check_folder", "with_pictures"]
