from .base import Features as Features
from .extractors import auto as auto
from .extractors import inception as inception
from .extractors import random as random
from .trained import classifier as classifier
