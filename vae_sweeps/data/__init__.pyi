from .arrays import numpy as numpy
from .dataset import Dataset as Dataset
from .faces import celeba as celeba
from .folder import image_folder as image_folder
from .map_style import torch_dataset as torch_dataset
from .mnist_family import fashion_mnist as fashion_mnist
from .mnist_family import mnist as mnist
from .mnist_family import mnist5k as mnist5k
