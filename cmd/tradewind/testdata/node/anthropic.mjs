// An unmodified Anthropic client in JavaScript: it knows a base URL, a key and names of models, and nothing of Tradewind.
// It prints what it saw as one JSON object, for the test that starts it.
import Anthropic from "@anthropic-ai/sdk";

const client = new Anthropic(); // base URL and key come from the environment
const ask = { model: "auto", max_tokens: 1000, messages: [{ role: "user", content: "What is 17 times 23?" }] };

const answer = await client.messages.create(ask);

let events = 0;
const stream = client.messages.stream(ask);
stream.on("streamEvent", () => events++);
const streamed = await stream.finalMessage();

const counted = await client.messages.countTokens({ model: "auto", messages: ask.messages });

let error;
try {
  await client.messages.create({ ...ask, model: "sim/stronk" });
} catch (e) {
  error = e;
}

const multiply = {
  name: "multiply",
  description: "Multiplies.",
  input_schema: { type: "object", properties: { a: { type: "number" }, b: { type: "number" } } },
};

// say asks whole or streamed.
const say = (body, whole) => (whole ? client.messages.create(body) : client.messages.stream(body).finalMessage());

const tools = {};
for (const model of process.argv.slice(2)) {
  const t = (tools[model] = {});
  for (const whole of [true, false]) {
    const turn = { ...ask, model, tools: [multiply] };
    const first = await say(turn, whole);
    const call = first.content.find((b) => b.type === "tool_use");
    t.Name = call.name;
    t.Input = JSON.stringify(call.input);
    const second = await say({
      ...turn,
      messages: [...ask.messages, { role: "assistant", content: first.content }, { role: "user", content: [{ type: "tool_result", tool_use_id: call.id, content: "391" }] }],
    }, whole);
    t[whole ? "Said" : "SaidStreamed"] = second.content[0].text;
  }
}

console.log(JSON.stringify({
  Answer: answer.content[0].text,
  Model: answer.model,
  Stop: answer.stop_reason,
  InputTokens: answer.usage.input_tokens,
  OutputTokens: answer.usage.output_tokens,
  Streamed: streamed.content[0].text,
  StreamModel: streamed.model,
  Events: events,
  StreamUsage: streamed.usage.output_tokens,
  Counted: counted.input_tokens,
  ErrorType: error?.error?.error?.type,
  ErrorStatus: error?.status,
  Tools: tools,
}));
