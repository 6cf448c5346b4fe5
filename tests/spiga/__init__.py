"""Tests of SPIGA."""
