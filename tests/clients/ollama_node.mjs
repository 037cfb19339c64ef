// ollama's npm package against a server with the small model: node ollama_node.mjs URL.
import assert from "node:assert";
import { Ollama } from "ollama";

const ollama = new Ollama({ host: process.argv[2] });
const { models } = await ollama.list();
const model = models[0].name;
const options = { temperature: 0, num_predict: 16 };
const messages = [{ role: "user", content: "Tell me a story about a cat." }];

const whole = await ollama.chat({ model, messages, options });
assert.ok(whole.message.content && whole.done_reason === "length" && whole.eval_count === 16);
let text = "";
for await (const part of await ollama.chat({ model, messages, options, stream: true })) text += part.message.content;
assert.equal(text, whole.message.content);
assert.ok((await ollama.generate({ model, prompt: "Once", raw: true, options })).response);

const shown = await ollama.show({ model });
assert.equal(shown.model_info["general.architecture"], "llama");
assert.equal((await ollama.ps()).models[0].name, model);
assert.equal((await ollama.embed({ model, input: ["a", "b"] })).embeddings.length, 2);
await assert.rejects(ollama.chat({ model: "nobody", messages }), /model 'nobody' not found/);

// A stream that is given up ends the work.
const given = await ollama.generate({ model, prompt: "Once", raw: true, stream: true, options: { num_predict: 2000, stop: [] } });
setTimeout(() => given.abort(), 20);
await assert.rejects(async () => { for await (const _ of given); }, { name: "AbortError" });
console.log(`ollama (npm): ${model} is well`);
