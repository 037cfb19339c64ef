// A conversation is a tree of messages: an edited message or another answer is a sibling of the first one. What is shown is the path
// from a root to the leaf that was looked at last. Pure functions on `{ nodes: { id: node }, leaf }`.

export function newConversation(now = Date.now()) {
  return { id: crypto.randomUUID(), title: '', created: now, updated: now, nodes: {}, leaf: null };
}

/** Adds a message behind `parent` (`null`: at the root) and makes it the leaf. */
export function addMessage(conversation, parent, message, now = Date.now()) {
  const node = { id: crypto.randomUUID(), parent, created: now, content: '', ...message };
  conversation.nodes[node.id] = node;
  conversation.leaf = node.id;
  conversation.updated = now;
  return node;
}

/** The messages that are shown, from the first to the leaf. */
export function path(conversation) {
  const messages = [];
  for (let id = conversation.leaf; id !== null && conversation.nodes[id]; id = conversation.nodes[id].parent) {
    messages.push(conversation.nodes[id]);
  }
  return messages.reverse();
}

function children(conversation, parent) {
  return Object.values(conversation.nodes)
    .filter((node) => node.parent === parent)
    .sort((a, b) => a.created - b.created || (a.id < b.id ? -1 : 1));
}

/** The versions of a message, the oldest first. */
export function siblings(conversation, node) {
  return children(conversation, node.parent);
}

/** Shows another version of a message, with what was written last behind it. */
export function select(conversation, id) {
  let newest = conversation.nodes[id];
  const behind = [id];
  while (behind.length > 0) {
    for (const node of children(conversation, behind.pop())) {
      behind.push(node.id);
      if (node.created >= newest.created) newest = node;
    }
  }
  conversation.leaf = newest.id;
}

/** Removes a message and all that is behind it. What is shown then ends at its newest sibling, or else at its parent. */
export function remove(conversation, id) {
  const { parent } = conversation.nodes[id];
  const doomed = [id];
  while (doomed.length > 0) {
    const next = doomed.pop();
    doomed.push(...children(conversation, next).map((node) => node.id));
    delete conversation.nodes[next];
  }
  const rest = children(conversation, parent);
  if (rest.length > 0) select(conversation, rest.at(-1).id);
  else conversation.leaf = parent;
}

/** A title for a conversation that has none: the first line of what was asked. */
export function titleOf(text) {
  const line = text.split('\n').find((line) => line.trim()) ?? '';
  const words = line.trim().replace(/\s+/g, ' ');
  return words.length > 60 ? `${words.slice(0, 59).trimEnd()}…` : words;
}

/** What is sent to the server: files come before the words of the message they are attached to. */
export function toRequest(messages, system) {
  const request = messages
    .filter((node) => node.role === 'user' || node.content)
    .map((node) => ({ role: node.role, content: withFiles(node) }));
  return system.trim() ? [{ role: 'system', content: system }, ...request] : request;
}

function withFiles(node) {
  const files = (node.files ?? []).map((file) => {
    const longest = Math.max(2, ...[...file.text.matchAll(/`{3,}/g)].map((fence) => fence[0].length));
    const fence = '`'.repeat(longest + 1);
    return `File ${file.name}:\n${fence}\n${file.text}\n${fence}`;
  });
  return [...files, node.content].filter(Boolean).join('\n\n');
}

/** Checks a conversation that was exported somewhere. Throws an error that says what is wrong. */
export function checkConversation(value) {
  const wrong = (what) => { throw new Error(what); };
  if (typeof value !== 'object' || value === null) wrong('expected a conversation, found something else');
  const { id, title, created, updated, nodes, leaf } = value;
  if (typeof id !== 'string' || !id) wrong('a conversation has no id');
  if (typeof nodes !== 'object' || nodes === null) wrong(`conversation ${id} has no messages`);
  for (const [key, node] of Object.entries(nodes)) {
    const known = ['user', 'assistant', 'system'].includes(node?.role);
    if (node?.id !== key || !known || typeof node.content !== 'string') wrong(`message ${key} is not one`);
    if (node.parent !== null && !nodes[node.parent]) wrong(`message ${key} follows one that is not there`);
    for (let seen = 0, at = node; at.parent !== null; at = nodes[at.parent], seen += 1) {
      if (seen > Object.keys(nodes).length || !nodes[at.parent]) wrong(`message ${key} follows itself`);
    }
  }
  if (leaf !== null && !nodes[leaf]) wrong(`conversation ${id} ends in a message that is not there`);
  const time = (t) => (Number.isFinite(t) ? t : Date.now());
  return { id, title: String(title ?? ''), created: time(created), updated: time(updated), nodes, leaf: leaf ?? null };
}
