"""The one-page report of a study: a picture of the result for people, as PDF and PNG."""

from cspine.page.planes import KeyPicture, SpinePicture, key_picture, spine_picture
from cspine.page.report import ReportPage, draw_report, png_to_rgb

__all__ = [
    "KeyPicture",
    "ReportPage",
    "SpinePicture",
    "draw_report",
    "key_picture",
    "png_to_rgb",
    "spine_picture",
]
