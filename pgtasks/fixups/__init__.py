"""Plug-ins that make an application at home in a framework."""
