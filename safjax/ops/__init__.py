"""Array operations with gradients suited to loops over time."""

from safjax.ops.convolution import conv_general_dilated
from safjax.ops.max_pooling import max_pool
from safjax.ops.pooling import avg_pool, global_avg_pool
from safjax.portable import portable

__all__ = ["avg_pool", "conv_general_dilated", "global_avg_pool", "max_pool", "portable"]
