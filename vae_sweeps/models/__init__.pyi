from .architecture import Networks as Networks
from .convolutional import conv as conv
from .dense import mlp as mlp
from .own import custom as custom
from .vae import VAE as VAE
