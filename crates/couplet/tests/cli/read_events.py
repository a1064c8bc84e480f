"""Prints the scalars of a folder of TensorBoard event files as JSON: a list of
[step, value] for each tag. Needs the tensorboard package."""
import json
import sys

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

events = EventAccumulator(sys.argv[1], size_guidance={"scalars": 0})
events.Reload()
scalars = {tag: [[e.step, e.value] for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
json.dump(scalars, sys.stdout)
