"""What a trained model is worth, as numbers. Imports `data`, `models`, `runs` and lower packages; draws nothing."""
