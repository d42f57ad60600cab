"""The four ways to change part of an object: JSON patch, JSON merge patch, strategic merge patch, server-side apply.

All are pure: they return a new object and share what did not change with the old one.
"""
