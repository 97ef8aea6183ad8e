"""Additions that an application may want: Django, testing, pytest."""
