"""From values to what Foyer takes, and back, so that nobody writes JSON strings by hand."""

import json


def pack(*values):
    """Make what Payload and Args are given: Payload(event="photo", **pack("cat.png", data)).

    bytes among the values, also deep inside, are sent as binary: a placeholder stands for them, they themselves travel beside.
    """
    attachments = []

    def placeholder(value):  # json asks for what it does not know
        if not isinstance(value, (bytes, bytearray, memoryview)):
            raise TypeError(f"{type(value).__name__} cannot be sent")
        attachments.append(bytes(value))
        return {"_placeholder": True, "num": len(attachments) - 1}

    text = json.dumps(values, default=placeholder, ensure_ascii=False, allow_nan=False)
    return {"json": text, "attachments": attachments}


def unpack(payload):
    """The values of an event, or of an acknowledgement. Foyer always answers with JSON, and has checked it."""

    def hook(value):
        return payload.attachments[value["num"]] if payload.attachments and value.get("_placeholder") is True else value

    return json.loads(payload.json, object_hook=hook)
