// What is drawn: a recording, or a sentence where nobody can speak it here.
import { ask, Refusal } from './server.js';

const { speaks, reads } = document.body.dataset;

// Of an example that came along; `text` is what it says.
export async function exampleOf(address, text, signal) {
  const answer = await fetch(address, { signal }).catch((error) => { throw signal?.aborted ? error : new Refusal('offline'); });
  if (!answer.ok) throw new Refusal('unknown');
  return { body: await answer.blob(), caption: text, example: address };
}

// Of a typed sentence: spoken, and played, where there is an engine, else drawn through text. `say` tells what goes on.
export async function sentenceOf(text, signal, say, { mayRead = true } = {}) {
  if (!text.trim()) throw new Refusal('no_sentence');
  if (speaks) {
    say('Speaking');
    try {
      const body = await (await ask('page/speech', {}, text, signal, say)).blob();
      new Audio(URL.createObjectURL(body)).play().catch(() => {}); // where the browser plays only after a click
      return { body, caption: text, sentence: text };
    } catch (error) {
      if (error.code !== 'not_installed') throw error;
    }
  }
  if (!reads || !mayRead) throw new Refusal('not_installed');
  return { body: new Blob([text], { type: 'text/plain' }), caption: text, sentence: text, silent: true };
}
