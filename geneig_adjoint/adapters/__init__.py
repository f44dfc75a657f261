"""Problems of other packages as models: one module per package, imported on demand."""
