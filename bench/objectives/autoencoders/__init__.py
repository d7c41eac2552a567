"""Variational autoencoders: the objectives whose q is made by a network, with their images and weights."""
