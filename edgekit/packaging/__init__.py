"""What an app loads: a model file, its preprocessing as code, a self-test, one module a target."""
