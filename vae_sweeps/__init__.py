"""Sweeps of variational autoencoders, trained together in packs, with numbers in nats."""

import lazy_loader

# The stub beside this file lists the public names; a module is imported when one of its names is first used, so that
# the command line need not wait for torch and pandas.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
