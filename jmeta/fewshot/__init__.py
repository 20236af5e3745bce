"""Few-shot models from a path to a prediction: train, judge, adapt."""
