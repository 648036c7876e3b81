"""What ``bench`` can measure beside its times, one module an extra; :mod:`.base` says what an extra is."""
