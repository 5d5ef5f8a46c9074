"""A metric: a function of a trained model and its data set."""


def mean_scale(model, dataset, num=50):
    mu, sigma = model.encode(model.images("test")[:num])
    return {"mu": mu.abs().mean(), "sigma": sigma.mean()}
