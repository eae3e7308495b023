// An unmodified OpenAI client in JavaScript at what is passed through: embeddings and completions of the models that the
// arguments name. It prints what it saw as one JSON object, for the test that starts it.
import OpenAI from "openai";

const client = new OpenAI({ maxRetries: 0 }); // base URL and key come from the environment
const [embed, complete] = process.argv.slice(2);
const ask = { model: embed, input: ["one", "three"] };

const vectors = await client.embeddings.create(ask); // the client asks for base64, and turns it into numbers

const text = { model: complete, prompt: "17 times 23 is " };
const completion = await client.completions.create(text);
let streamed = "";
let streamUsage = 0;
for await (const c of await client.completions.create({ ...text, stream: true, stream_options: { include_usage: true } })) {
  streamed += c.choices[0]?.text ?? "";
  streamUsage = c.usage?.completion_tokens ?? streamUsage;
}

let error;
try {
  await client.embeddings.create({ ...ask, model: "auto" });
} catch (e) {
  error = e;
}

console.log(JSON.stringify({
  Vectors: vectors.data.map((d) => d.embedding),
  EmbeddingModel: vectors.model,
  Tokens: vectors.usage.total_tokens,
  Text: completion.choices[0].text,
  CompletionUsed: completion.model,
  CompletionTokens: completion.usage.completion_tokens,
  Streamed: streamed,
  StreamUsage: streamUsage,
  ErrorCode: error?.code,
  ErrorParam: error?.param,
}));
