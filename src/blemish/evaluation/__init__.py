"""Evaluating predictions: metrics, result tables, and the data that a report needs."""
