"""Figures: how fast the way is beside what people know, and what each process weighs. ``make bench``."""
