"""Tests of the package sdu3d."""
