"""Features that scores such as FID compare: one vector for each image in [0,1]."""

import lazy_loader

# The stub beside this file lists the public names; a module is imported when one of its names is first used.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
