// An unmodified OpenAI client in JavaScript: it knows a base URL and a key and nothing of Tradewind. It prints what it
// saw as one JSON object, for the test that starts it.
import OpenAI from "openai";

const client = new OpenAI({ maxRetries: 0 }); // base URL and key come from the environment
const ask = { model: "auto", messages: [{ role: "user", content: "What is 17 times 23?" }] };

const answer = await client.chat.completions.create(ask);

let streamed = "";
let chunks = 0;
let streamUsage = 0;
let streamModel = "";
const stream = await client.chat.completions.create({ ...ask, stream: true, stream_options: { include_usage: true } });
for await (const chunk of stream) {
  chunks++;
  streamed += chunk.choices[0]?.delta?.content ?? "";
  streamModel ||= chunk.model;
  streamUsage = chunk.usage?.completion_tokens ?? streamUsage;
}

const response = await client.responses.create({ model: "sim/middle", input: "What is 17 times 23?" });
const responseStream = client.responses.stream({ model: "sim/middle", input: "What is 17 times 23?" });
const responseStreamed = await responseStream.finalResponse();

const models = [];
for await (const m of client.models.list()) models.push(m.id);

let error;
try {
  await client.chat.completions.create({ ...ask, model: "sim/stronk" });
} catch (e) {
  error = e;
}

console.log(JSON.stringify({
  Answer: answer.choices[0].message.content,
  Model: answer.model,
  Finish: answer.choices[0].finish_reason,
  PromptTokens: answer.usage.prompt_tokens,
  OutputTokens: answer.usage.completion_tokens,
  Streamed: streamed,
  Chunks: chunks,
  StreamUsage: streamUsage,
  StreamModel: streamModel,
  Models: models,
  ErrorCode: error?.code,
  ErrorStatus: error?.status,
  Response: response.output_text,
  ResponseStreamed: responseStreamed.output[0].content[0].text, // the client adds output_text only to whole answers
  ResponseModel: response.model,
  ResponseTokens: response.usage.output_tokens,
}));
