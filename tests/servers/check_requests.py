"""Checks requests against the types of the `openai` package: check_requests.py FILE, a JSON list of [path, body].

Prints a line per fault and exits with 1 if there is one.
"""

import json
import sys
import typing

import pydantic
from openai.types.chat import completion_create_params as chat
from openai.types.responses import response_create_params as responses

KINDS = {
    "/v1/chat/completions": chat.CompletionCreateParamsStreaming,
    "/v1/responses": responses.ResponseCreateParamsStreaming,
}


def forced(value):
    """The types say `Iterable`, which is looked at only when somebody asks."""
    if isinstance(value, dict):
        return {name: forced(member) for name, member in value.items()}
    if isinstance(value, (str, bytes, int, float, bool, type(None))):
        return value
    return [forced(member) for member in value]


def unanswered(body):
    """Calls without a result right behind them, or results without a call."""
    if "messages" in body:
        calls = [call["id"] for message in body["messages"] for call in message.get("tool_calls") or []]
        results = [message["tool_call_id"] for message in body["messages"] if message["role"] == "tool"]
    else:
        of = lambda kind: [item["call_id"] for item in body["input"] if item.get("type") == kind]
        calls, results = of("function_call"), of("function_call_output")
    return [] if sorted(calls) == sorted(results) else [f"calls {calls} and results {results} are no pairs"]


def faults(path, body):
    kind = KINDS.get(path)
    if kind is None:
        return [f"{path} is no path of the API"]
    found = [f"`{name}` is no parameter" for name in body if name not in typing.get_type_hints(kind)]
    try:
        # Kept, since what is looked at late needs it.
        adapter = pydantic.TypeAdapter(kind)
        seen = forced(adapter.validate_python(body))
    except pydantic.ValidationError as error:
        return found + [str(fault["loc"]) + ": " + fault["msg"] for fault in error.errors()]
    return found + unanswered(body) + ([] if seen else ["there is nothing in it"])


def main(path):
    requests = json.load(open(path, encoding="utf-8"))
    found = [f"{nth}: {fault}" for nth, (path, body) in enumerate(requests) for fault in faults(path, body)]
    print("\n".join(found) or f"{len(requests)} requests are as the types say")
    return 1 if found or not requests else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
