// openai's npm package against servers with the small model: node openai_node.mjs URL TOOLS_URL. The second has a template that takes tools.
import assert from "node:assert";
import OpenAI from "openai";

const [url, toolsUrl] = process.argv.slice(2);
const options = { apiKey: "none", maxRetries: 0 };
const client = new OpenAI({ ...options, baseURL: `${url}/v1` });
const caller = new OpenAI({ ...options, baseURL: `${toolsUrl}/v1` });

// Models.
const model = (await client.models.list()).data[0].id;
assert.equal((await client.models.retrieve(model)).id, model);

// A chat, whole and streamed.
const messages = [{ role: "user", content: "Tell me a story about a cat." }];
const greedy = { model, messages, temperature: 0, max_tokens: 24 };
const whole = await client.chat.completions.create(greedy);
const said = whole.choices[0].message.content;
assert.ok(said && whole.choices[0].finish_reason === "length" && whole.usage.completion_tokens === 24);
let text = "", usage = null, reason = null;
for await (const chunk of await client.chat.completions.create({ ...greedy, stream: true, stream_options: { include_usage: true } })) {
  text += chunk.choices[0]?.delta.content ?? "";
  reason ??= chunk.choices[0]?.finish_reason;
  usage = chunk.usage ?? usage;
}
assert.deepEqual([text, reason, usage.completion_tokens, usage.prompt_tokens], [said, "length", 24, whole.usage.prompt_tokens]);
const runner = client.chat.completions.stream({ ...greedy, stop: said.split(" ")[4] });
let deltas = "";
runner.on("content", (delta) => { deltas += delta; });
assert.equal((await runner.finalChatCompletion()).choices[0].message.content, deltas);
const { choices } = await client.chat.completions.create({ ...greedy, n: 2, temperature: 1.5, seed: 3, logprobs: true, top_logprobs: 2 });
assert.deepEqual(choices.map((choice) => choice.index), [0, 1]);
for (const { message, logprobs } of choices) {
  const bytes = logprobs.content.flatMap((token) => token.bytes);
  assert.equal(Buffer.from(bytes).toString(), message.content);
  assert.ok(logprobs.content.every((token) => token.logprob <= 0 && token.top_logprobs.length === 2));
}

// JSON by schema.
const schema = { type: "object", properties: { kind: { enum: ["cat", "dog"] }, legs: { enum: [2, 4] } }, required: ["kind", "legs"], additionalProperties: false };
const format = { type: "json_schema", json_schema: { name: "pet", strict: true, schema } };
const pet = JSON.parse((await client.chat.completions.create({ ...greedy, max_tokens: 200, response_format: format })).choices[0].message.content);
assert.ok(["cat", "dog"].includes(pet.kind) && [2, 4].includes(pet.legs));

// Tools, whole, streamed, and run by the client until there is an answer.
const add = {
  type: "function",
  function: {
    name: "add",
    description: "Adds two numbers.",
    parameters: { type: "object", properties: { a: { enum: [1, 2] }, b: { enum: [3, 4] } }, required: ["a", "b"], additionalProperties: false },
  },
};
const ask = { ...greedy, max_tokens: 300, tools: [add], parallel_tool_calls: false };
const forced = { ...ask, tool_choice: { type: "function", function: { name: "add" } } };
const called = (await caller.chat.completions.create(forced)).choices[0];
assert.equal(called.finish_reason, "tool_calls");
const [call] = called.message.tool_calls;
assert.ok(call.function.name === "add" && [1, 2].includes(JSON.parse(call.function.arguments).a) && /^[0-9A-Za-z]{9}$/.test(call.id));
const streamed = await caller.chat.completions.stream(forced).finalMessage();
assert.equal(streamed.tool_calls[0].function.arguments, call.function.arguments);
const back = [...messages, called.message, { role: "tool", tool_call_id: call.id, content: "4" }];
assert.ok((await caller.chat.completions.create({ ...ask, messages: back, tool_choice: "none", max_tokens: 6 })).choices[0].message.content);

// Embeddings: base64 by default, and floats.
const vectors = (await client.embeddings.create({ model, input: ["a cat", "a dog"] })).data.map((item) => item.embedding);
const floats = (await client.embeddings.create({ model, input: ["a cat", "a dog"], encoding_format: "float" })).data.map((item) => item.embedding);
assert.equal(vectors[0].length, 256);
vectors.forEach((vector, i) => vector.forEach((x, j) => assert.ok(Math.abs(x - floats[i][j]) < 1e-6)));
assert.ok(Math.abs(Math.hypot(...vectors[0]) - 1) < 1e-5 && vectors[0][0] !== vectors[1][0]);

// Texts and responses.
const once = { model, prompt: "Once upon a time", temperature: 0, max_tokens: 8 };
const continued = (await client.completions.create({ ...once, echo: true, logprobs: 1 })).choices[0];
assert.equal(continued.text, "Once upon a time" + (await client.completions.create(once)).choices[0].text);
assert.equal(continued.logprobs.tokens.length, continued.logprobs.token_logprobs.length);
const reply = await client.responses.create({ model, input: messages, temperature: 0, max_output_tokens: 24 });
assert.deepEqual([reply.output_text, reply.status], [said, "incomplete"]);
const response = await client.responses.stream({ model, input: messages, temperature: 0, max_output_tokens: 24 }).finalResponse();
assert.equal(response.output_text, said);

// What goes wrong.
await assert.rejects(client.models.retrieve("nobody"), (error) => error instanceof OpenAI.NotFoundError && error.type === "not_found_error");
await assert.rejects(client.chat.completions.create({ ...greedy, temperature: "hot" }), (error) => error instanceof OpenAI.BadRequestError && error.param === "temperature");
await assert.rejects(
  client.chat.completions.create({ ...greedy, messages: [{ role: "user", content: "cat ".repeat(3000) }], stream: true }),
  (error) => error.status === 400 && error.error.n_ctx === 2048 && error.requestID !== null,
);

// A stream that is given up ends the work.
const given = await client.chat.completions.create({ ...greedy, max_tokens: 1500, ignore_eos: true, stream: true });
for await (const _ of given) break;
for (let i = 0; ; i++) {
  const slots = await (await fetch(`${url}/slots`)).json();
  if (!slots.some((slot) => slot.is_processing)) break;
  assert.ok(i < 100, "a slot is still at work");
  await new Promise((resolve) => setTimeout(resolve, 20));
}
console.log(`openai (npm): ${model} is well`);
