"""Turns the ONNX reference of a bundle into the forms other devices read; one target a file."""
