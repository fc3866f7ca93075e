"""A cluster under a virtual clock: the real policies and books, a model where the work would be."""
