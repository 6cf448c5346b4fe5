"""Tests of the progressive reinitialisation method."""
