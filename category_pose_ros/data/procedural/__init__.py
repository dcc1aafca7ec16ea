"""Procedural categories: families of shapes and surfaces, scenes made of them."""
