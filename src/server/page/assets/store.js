// Conversations in IndexedDB. Titles and times are in a store of their own, so that the list does not read every message.

const NAME = 'bise';
const VERSION = 1;

let opened;

function database() {
  opened ??= new Promise((resolve, reject) => {
    const request = indexedDB.open(NAME, VERSION);
    request.onupgradeneeded = () => {
      request.result.createObjectStore('conversations', { keyPath: 'id' });
      request.result.createObjectStore('titles', { keyPath: 'id' });
    };
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
  return opened;
}

async function transact(mode, work) {
  const transaction = (await database()).transaction(['conversations', 'titles'], mode);
  const result = work(transaction.objectStore('conversations'), transaction.objectStore('titles'));
  return new Promise((resolve, reject) => {
    transaction.oncomplete = () => resolve(result?.result);
    transaction.onabort = () => reject(transaction.error);
    transaction.onerror = () => reject(transaction.error);
  });
}

const head = ({ id, title, created, updated }) => ({ id, title, created, updated });

/** Titles and times, the newest first. */
export async function list() {
  const titles = await transact('readonly', (_, titles) => titles.getAll());
  return titles.sort((a, b) => b.updated - a.updated);
}

export const load = (id) => transact('readonly', (conversations) => conversations.get(id));

export const save = (conversation) => transact('readwrite', (conversations, titles) => {
  conversations.put(conversation);
  titles.put(head(conversation));
});

export const remove = (id) => transact('readwrite', (conversations, titles) => {
  conversations.delete(id);
  titles.delete(id);
});

export const all = () => transact('readonly', (conversations) => conversations.getAll());

/** Ids of the conversations in which every word of `query` occurs, in a title or a message. */
export async function search(query) {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  const found = (await all()).filter((conversation) => {
    const texts = Object.values(conversation.nodes).map((node) => node.content);
    const text = [conversation.title, ...texts].join('\n').toLowerCase();
    return words.every((word) => text.includes(word));
  });
  return new Set(found.map((conversation) => conversation.id));
}
