"""Variational autoencoders: objectives in which a network makes q, with their images and weights."""
