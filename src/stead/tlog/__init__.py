"""Transparency logs: RFC 6962 trees and the C2SP text formats, as values and pure functions."""
