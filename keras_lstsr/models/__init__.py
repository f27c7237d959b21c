"""Networks, from kelvin on the coarse grid to kelvin on the fine one.

Importing this room registers its layers, so that Keras can load models that hold them.
"""

from keras_lstsr.models import guidance, guided, guided_1, layers

__all__ = ["guidance", "guided", "guided_1", "layers"]
