"""Selective cascade of regressors on landmark patches with attention, which stops once it is sure enough."""
