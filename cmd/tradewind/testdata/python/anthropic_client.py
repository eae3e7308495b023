"""An unmodified Anthropic client in Python: it knows a base URL, a key and names of models, and nothing of Tradewind. It
prints what it saw as one JSON object, for the test that starts it."""

import json
import sys

import anthropic

client = anthropic.Anthropic()  # base URL and key come from the environment
ask = {"model": "auto", "max_tokens": 1000, "messages": [{"role": "user", "content": "What is 17 times 23?"}]}
multiply = {
    "name": "multiply",
    "description": "Multiplies.",
    "input_schema": {"type": "object", "properties": {"a": {"type": "number"}, "b": {"type": "number"}}},
}


@anthropic.beta_tool(name="multiply")
def multiplied(a: float, b: float) -> str:
    """Multiplies."""
    return str(int(a * b))


def say(body, whole):
    """Asks whole or streamed."""
    if whole:
        return client.messages.create(**body), 1
    events = 0
    with client.messages.stream(**body) as stream:
        for _ in stream:
            events += 1
        return stream.get_final_message(), events


answer, _ = say(ask, True)
streamed, events = say(ask, False)
counted = client.messages.count_tokens(model="auto", messages=ask["messages"])
try:
    client.messages.create(**{**ask, "model": "sim/stronk"})
    error = None
except anthropic.APIStatusError as e:
    error = e

tools = {}
for model in sys.argv[1:]:
    t = tools[model] = {}
    for whole in (True, False):
        turn = {**ask, "model": model, "tools": [multiply]}
        first, _ = say(turn, whole)
        call = next(b for b in first.content if b.type == "tool_use")
        t["Name"], t["Input"] = call.name, json.dumps(call.input, separators=(",", ":"))
        result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call.id, "content": "391"}]}
        second, _ = say({**turn, "messages": [*ask["messages"], {"role": "assistant", "content": first.content}, result]}, whole)
        t["Said" if whole else "SaidStreamed"] = second.content[0].text
    ran = client.beta.messages.tool_runner(**{**ask, "model": model, "tools": [multiplied]}).until_done()
    t["Ran"] = ran.content[0].text

print(json.dumps({
    "Answer": answer.content[0].text,
    "Model": answer.model,
    "Stop": answer.stop_reason,
    "InputTokens": answer.usage.input_tokens,
    "OutputTokens": answer.usage.output_tokens,
    "Streamed": streamed.content[0].text,
    "StreamModel": streamed.model,
    "Events": events,
    "StreamUsage": streamed.usage.output_tokens,
    "Counted": counted.input_tokens,
    "ErrorType": error and error.body["error"]["type"],
    "ErrorStatus": error and error.status_code,
    "Tools": tools,
}))
