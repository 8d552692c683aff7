"""Medical benchmarks, and anyone's predictions, graded by a medreward service."""
