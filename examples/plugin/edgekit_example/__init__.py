"""One plug-in of each kind that edgekit knows; see README.md."""
