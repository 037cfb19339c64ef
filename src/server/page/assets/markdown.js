// Markdown to elements, cleaned of anything that could run or load something. A text that grows is rendered again only from the block
// that changed.

import { marked } from './vendor/marked.esm.js';
import './vendor/purify.min.js';
import hljs from './vendor/highlight.min.js';

const { DOMPurify } = globalThis;

// HTML in an answer is text, but for tags that are Markdown by other means.
const escape = (text) => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;');
const HARMLESS = /&lt;(\/?(?:br|sub|sup|kbd|b|i|u|s|em|strong|mark|details|summary)\s*\/?)&gt;/gi;
const html = ({ text }) => escape(text).replaceAll(HARMLESS, '<$1>');

// A picture would be loaded from wherever the answer says.
const image = ({ text, href }) => `[image: ${escape(text || href)}]`;

marked.use({ gfm: true, breaks: true, renderer: { html, image } });

const CLEAN = {
  USE_PROFILES: { html: true },
  FORBID_TAGS: ['style', 'form', 'input', 'button', 'textarea', 'select', 'iframe', 'audio', 'video', 'img', 'picture', 'source'],
  FORBID_ATTR: ['style', 'id', 'name', 'class'],
  RETURN_DOM_FRAGMENT: true,
};

/** Renders `text` into `element`, which must be changed by this function only. */
export function render(element, text) {
  const tokens = marked.lexer(text);
  const blocks = element.blocks ?? [];
  let same = 0;
  while (same < blocks.length && same < tokens.length && blocks[same].raw === tokens[same].raw) same += 1;
  blocks.splice(same).forEach(({ nodes }) => nodes.forEach((node) => node.remove()));
  for (const token of tokens.slice(same)) {
    const nodes = nodesOf(token, tokens.links);
    element.append(...nodes);
    blocks.push({ raw: token.raw, nodes });
  }
  element.blocks = blocks;
}

function nodesOf(token, links) {
  if (token.type === 'code') return [codeBlock(token.text, token.lang)];
  const one = [token];
  one.links = links;
  const html = marked.parser(one).replaceAll(/<input\b[^>]*type="checkbox"[^>]*>/g, (box) => (/\bchecked\b/.test(box) ? '☑' : '☐'));
  const fragment = DOMPurify.sanitize(html, CLEAN);
  for (const link of fragment.querySelectorAll('a[href]')) {
    link.target = '_blank';
    link.rel = 'noopener noreferrer';
  }
  for (const code of fragment.querySelectorAll('pre > code')) {
    code.parentElement.replaceWith(codeBlock(code.textContent.replace(/\n$/, ''), ''));
  }
  for (const table of fragment.querySelectorAll('table')) {
    const scroll = document.createElement('div');
    scroll.className = 'table';
    table.replaceWith(scroll);
    scroll.append(table);
  }
  return [...fragment.childNodes];
}

function codeBlock(text, info) {
  const language = (info ?? '').trim().split(/\s/)[0];
  const block = document.createElement('div');
  block.className = 'code';
  const bar = document.createElement('div');
  bar.className = 'code-bar';
  const name = document.createElement('span');
  name.textContent = language;
  const copy = document.createElement('button');
  copy.type = 'button';
  copy.textContent = 'Copy';
  copy.setAttribute('aria-label', 'Copy code');
  copy.dataset.action = 'copy-code';
  bar.append(name, copy);
  const pre = document.createElement('pre');
  pre.tabIndex = 0;
  const code = document.createElement('code');
  code.textContent = text;
  // Half a megabyte of code is shown, but not coloured.
  if (hljs.getLanguage(language) && text.length < 500_000) {
    const colored = hljs.highlight(text, { language, ignoreIllegals: true }).value;
    code.replaceChildren(DOMPurify.sanitize(colored, { ALLOWED_TAGS: ['span'], ALLOWED_ATTR: ['class'], RETURN_DOM_FRAGMENT: true }));
  }
  pre.append(code);
  block.append(bar, pre);
  return block;
}
