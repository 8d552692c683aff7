"""Grades for predictions: options by rule, the rest by the service's judge."""
