"""fastnn"""
from fastnn._version import __version__
