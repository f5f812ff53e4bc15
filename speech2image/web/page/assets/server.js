// Asking the server: requests that wait and try again by themselves, and answers that come step by step.
import { wordingOf } from './wording.js';

const TRIES = 40; // of one request while the server is busy or does not answer
const OFFLINE_SECONDS = 2; // between two tries when nothing answers
const BUSY = new Set(['busy', 'too_many']), GONE = new Set(['offline', 'stopping']);

export class Refusal extends Error {
  constructor(code) {
    super(wordingOf(code));
    this.code = code;
  }
}

const pause = (seconds, signal) => new Promise((resolve, reject) => {
  const timer = setTimeout(resolve, 1000 * seconds);
  signal.addEventListener('abort', () => { clearTimeout(timer); reject(signal.reason); }, { once: true });
});

// Posts `body`; the answer, or a Refusal. What may pass is tried again, which `say` tells once.
export async function ask(path, settings, body, signal, say) {
  for (let left = TRIES; ; left -= 1) {
    const [answer, code, seconds] = await once(`${path}?${new URLSearchParams(settings)}`, body, signal);
    if (answer) return answer;
    if (!left || !(BUSY.has(code) || GONE.has(code))) throw new Refusal(code);
    say(BUSY.has(code) ? 'The server is busy. Trying again…' : 'The server does not answer. Trying again…');
    await pause(seconds, signal);
  }
}

async function once(address, body, signal) {
  let answer;
  try {
    answer = await fetch(address, { method: 'POST', body, signal });
  } catch (error) {
    if (signal.aborted) throw error;
    return [null, 'offline', OFFLINE_SECONDS];
  }
  if (answer.ok) return [answer];
  if (answer.status === 401) location.reload(); // the key is asked for again
  const problem = await answer.json().catch(() => ({}));
  return [null, problem.code, Number(answer.headers.get('Retry-After')) || 1];
}

// The events of an answer, as they come; a "problem" becomes a Refusal.
export async function* events(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let rest = ''; ;) {
    const { value, done } = await reader.read().catch(() => { throw new Refusal('offline'); });
    if (done) return;
    const lines = (rest + value).split('\n');
    rest = lines.pop();
    for (const line of lines) {
      const event = JSON.parse(line);
      if (event.event === 'problem') throw new Refusal(event.code);
      yield event;
    }
  }
}

// Runs one piece of work at a time, the newest; `failed` is given what went wrong, unless it was cancelled.
export function makeTask(box, failed) {
  let running = null;
  const run = async (work) => {
    running?.abort();
    const own = running = new AbortController();
    box.setAttribute('aria-busy', 'true');
    try {
      await work(own.signal);
    } catch (error) {
      if (own.signal.aborted) return;
      if (!(error instanceof Refusal)) console.error(error);
      failed(error instanceof Refusal ? error : new Refusal('failed'));
    } finally {
      if (running === own) { running = null; box.removeAttribute('aria-busy'); }
    }
  };
  run.cancel = () => { const was = running; was?.abort(); return Boolean(was); };
  return run;
}

// Lets the browser save a file.
export function keep(blob, name) {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
