"""TensorBoard's protobuf messages. Protobuf makes their classes at import, so type checkers cannot see them."""

from typing import Any

from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.plugins.hparams import api_pb2, plugin_data_pb2

# github.com/tensorflow/tensorboard: tensorboard/compat/proto and tensorboard/plugins/hparams/{api,plugin_data}.proto.
events: Any = event_pb2
summaries: Any = summary_pb2
hparams: Any = api_pb2
hparams_data: Any = plugin_data_pb2
