"""One file per backend: recipe → native config → run; and what comes before and after: prepare, preview, merge, manifest."""
