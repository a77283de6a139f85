"""Layouts of data sets in folders: one module per layout, and a line in `data.category.DATASETS`."""
