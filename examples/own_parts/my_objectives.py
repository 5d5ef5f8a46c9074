"""A loss of each image, from the terms of the ELBO."""


def tempered(terms, step, beta, temperature=1.0):
    return -terms.log_px / temperature + beta * terms.kl
