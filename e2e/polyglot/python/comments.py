"""Reads the JSON that the API's comments show as Python's json_format does: comments.py api.binpb. It prints how many it took."""
import json
import sys

from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from google.protobuf import any_pb2, duration_pb2, struct_pb2, timestamp_pb2  # noqa: F401 what the API imports
from google.rpc import error_details_pb2, status_pb2  # noqa: F401 the same, and what an error has in it

MESSAGE, SERVICE, METHOD = 4, 6, 2  # field numbers of FileDescriptorProto and ServiceDescriptorProto


def documents(comment):
    """What is indented in a comment."""
    document = ""
    for line in comment.split("\n"):
        document = document + line if line.startswith("  ") else ""
        try:
            json.loads(document)
        except ValueError:
            continue
        yield document
        document = ""


def types(file, path):
    """The types that the JSON of a comment may have: of a method, its request first."""
    if len(path) == 2 and path[0] == MESSAGE:
        return [f"{file.package}.{file.message_type[path[1]].name}"]
    if len(path) == 4 and path[0] == SERVICE and path[2] == METHOD:
        method = file.service[path[1]].method[path[3]]
        return [method.input_type[1:], method.output_type[1:]]
    return []


def take(document, name):
    kind = message_factory.GetMessageClass(pool.FindMessageTypeByName(name))
    json_format.Parse(document, kind(), descriptor_pool=pool)


pool = descriptor_pool.Default()
with open(sys.argv[1], "rb") as f:
    files = [f for f in descriptor_pb2.FileDescriptorSet.FromString(f.read()).file if f.name.startswith("foyer/")]
for file in files:
    pool.AddSerializedFile(file.SerializeToString())
taken = 0
for file in files:
    for location in file.source_code_info.location:
        wanted = types(file, location.path)
        for document in documents(location.leading_comments) if wanted else []:
            refused = []
            for name in wanted:
                try:
                    take(document, name)
                    break
                except json_format.ParseError as e:
                    refused.append(f"{name}: {e}")
            else:
                sys.exit(f"{document}\n" + "\n".join(refused))
            taken += 1
print(taken)
