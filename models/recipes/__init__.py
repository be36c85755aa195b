"""Recipes that build the ONNX models used by meshes, tests and benches; `build.py` runs them."""
