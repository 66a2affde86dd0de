"""Sparsifiers of the papers; each reads like its pseudo-code. Found through entry points, as any plug-in is."""
