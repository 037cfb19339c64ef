// The server's HTTP interface.

import { settings } from './settings.js';

const BASE = new URL('.', document.baseURI);

/** An answer of the server that is an error, or none at all. */
export class ApiError extends Error {
  constructor(message, status = 0) {
    super(message);
    this.status = status;
  }
}

async function ask(path, options = {}) {
  const { apiKey } = settings.get();
  const headers = { ...(options.body && { 'Content-Type': 'application/json' }) };
  if (apiKey) headers.Authorization = `Bearer ${apiKey}`;
  let response;
  try {
    response = await fetch(new URL(path, BASE), { ...options, headers });
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new ApiError('The server does not answer. Is it still running?');
  }
  if (response.ok) return response;
  const text = await response.text();
  throw new ApiError(messageOf(text) ?? `The server answered ${response.status} ${response.statusText}`, response.status);
}

function messageOf(text) {
  try {
    const { error } = JSON.parse(text);
    return typeof error === 'string' ? error : error?.message;
  } catch {
    return undefined;
  }
}

/** The models that can be asked: `{ id, status }`, where `status` is `loaded` if the server does not say. */
export async function models() {
  const { data } = await (await ask('v1/models')).json();
  return data.map(({ id, status }) => ({ id, status: status?.failed ? 'failed' : (status?.value ?? 'loaded') }));
}

/** Facts about a loaded model: `n_ctx` of a conversation, and whether it can answer yet. */
export async function props(model) {
  const query = model ? `?${new URLSearchParams({ model, autoload: 'false' })}` : '';
  const props = await (await ask(`props${query}`)).json();
  return { nCtx: props.default_generation_settings?.n_ctx ?? null };
}

export async function isReady() {
  try {
    await ask('health');
    return true;
  } catch (error) {
    if (error.status === 503) return false;
    throw error;
  }
}

/**
 * Asks for an answer and calls `on` with its parts as they come: `{ content }`, `{ reasoning }`, `{ toolCalls }`, `{ progress }`,
 * `{ timings }`, `{ usage }`, `{ finish }`. Returns when the answer is whole.
 */
export async function chat(request, { signal, on }) {
  const body = JSON.stringify({
    ...request,
    stream: true,
    stream_options: { include_usage: true },
    return_progress: true,
    timings_per_token: true,
  });
  const response = await ask('v1/chat/completions', { method: 'POST', body, signal });
  let isDone = false;
  for await (const data of events(response.body)) {
    if (data === '[DONE]') {
      isDone = true;
      break;
    }
    const chunk = JSON.parse(data);
    if (chunk.error) throw new ApiError(chunk.error.message ?? String(chunk.error), chunk.error.code ?? 0);
    const [choice] = chunk.choices ?? [];
    const delta = choice?.delta ?? {};
    if (delta.content) on({ content: delta.content });
    if (delta.reasoning_content) on({ reasoning: delta.reasoning_content });
    if (delta.tool_calls) on({ toolCalls: delta.tool_calls });
    if (choice?.finish_reason) on({ finish: choice.finish_reason });
    if (chunk.prompt_progress) on({ progress: chunk.prompt_progress });
    if (chunk.timings) on({ timings: chunk.timings });
    if (chunk.usage) on({ usage: chunk.usage });
  }
  if (!isDone) throw new ApiError('The answer was cut off: the connection to the server ended.');
}

/** The `data` of each server-sent event. */
export async function* events(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const lines = (rest + value).split(/\r?\n/);
      rest = lines.pop();
      for (const line of lines) {
        if (line.startsWith('data:')) yield line.slice(5).trimStart();
        else if (line.startsWith('error:')) throw new ApiError(messageOf(line.slice(6)) ?? line.slice(6));
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
