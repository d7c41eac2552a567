"""The gate: it shows whether a variance has grown, or a bias has appeared, since a baseline was accepted."""
