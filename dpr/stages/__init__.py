"""The networks of the cascade: the backbone, the reinitialisations and the regressions of face and parts."""
