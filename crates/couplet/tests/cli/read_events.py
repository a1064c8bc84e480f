"""Prints a folder of TensorBoard event files as JSON: of each scalar's tag a list of [step, value], of each
image's [step, width, height], of each text's [step, text]. Needs the tensorboard package."""
import json
import sys

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util.tensor_util import make_ndarray

events = EventAccumulator(sys.argv[1], size_guidance={"scalars": 0, "images": 0, "tensors": 0})
events.Reload()
tags = events.Tags()
found = {tag: [[e.step, e.value] for e in events.Scalars(tag)] for tag in tags["scalars"]}
found |= {tag: [[e.step, e.width, e.height] for e in events.Images(tag)] for tag in tags["images"]}
texts = events.PluginTagToContent("text") if tags["tensors"] else {}
found |= {tag: [[e.step, make_ndarray(e.tensor_proto)[0].decode()] for e in events.Tensors(tag)] for tag in texts}
json.dump(found, sys.stdout)
