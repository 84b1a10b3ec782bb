"""Failures injected at every step of what changes Programs and Scopes."""
