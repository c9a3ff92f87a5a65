"""What stands in for the Triton image: a folder that is shown as a container's, with `serve.py` and a backend of our own."""
