// What a recording became: what was heard, the pictures as they come, and what can be done with them.
import { make } from './dom.js';
import { enlarge } from './viewer.js';

const UNSURE = 0.5; // words of less confidence are marked

const UNKNOWN = 'what you said';

// What pictures are of, in words: a typed sentence or an example's text, else what was understood.
export const aboutOf = (subject, heard) => subject.caption || heard?.transcript || '';

// The words that were heard, the unsure ones marked.
export function wordsOf(heard) {
  const words = heard.words.length ? heard.words : [{ text: heard.transcript, confidence: 1 }];
  return words.flatMap(({ text, confidence }, k) => [k ? ' ' : '', confidence >= UNSURE ? text
    : make('span', { class: 's2i-unsure', title: `unsure of this word: ${Math.round(100 * confidence)} %` }, text,
      make('span', { class: 's2i-unseen', textContent: ' (unsure)' }))]);
}

export function transcript(heard) {
  if (!heard.transcript) return null;
  const used = heard.route === 'cascade';
  return make('p', { class: 's2i-transcript' }, used ? 'Drawn from: ' : 'I heard: ', make('q', {}, ...wordsOf(heard)),
    used ? null : make('span', { class: 's2i-quiet', textContent: ' (the pictures come from the sound itself)' }));
}

// "flowers, birds and rooms"
export function listOf(domains) {
  const names = domains.filter((name) => name !== 'other').map((name) => `${name}s`);
  return names.length > 1 ? `${names.slice(0, -1).join(', ')} and ${names.at(-1)}` : names.join('');
}

export const isUnknown = (heard) => heard.domain === 'other';

// Of something that the model does not know.
export function remark(heard, drawAnyway) {
  const said = heard.transcript ? make('span', {}, '; I heard ', make('q', {}, ...wordsOf(heard))) : '; this sounded like something else';
  return make('div', { class: 's2i-notice s2i-hinted', role: 'note' },
    make('p', {}, `I only know ${listOf(heard.domains)}`, said, '.'),
    drawAnyway ? make('button', { type: 'button', class: 's2i-button s2i-anyway', onclick: drawAnyway, textContent: 'Draw it anyway' }) : null);
}

// The pictures of one route. Made when something was heard; `add` shows a picture, `end` what there is to do.
export class Pictures {
  constructor(subject, heard, { title, count, keep, anyway }) {
    this.subject = subject;
    this.heard = heard;
    this.keep = keep;
    this.cells = Array.from({ length: count }, () => make('figure', { class: 's2i-waiting' }));
    this.grid = make('div', { class: 's2i-grid', 'data-count': count }, ...this.cells);
    this.element = make('section', { class: 's2i-pictures', 'aria-label': title || 'Pictures' },
      title ? make('h2', { textContent: title }) : null,
      isUnknown(heard) ? remark(heard, anyway) : transcript(heard), this.grid);
  }

  add({ k, url, width, height }) {
    const about = aboutOf(this.subject, this.heard) || UNKNOWN, place = `${k + 1} of ${this.cells.length}`;
    const image = make('img', { src: url, width, height, alt: `Picture ${place}: ${about}` });
    this.cells[k].classList.remove('s2i-waiting');
    this.cells[k].replaceChildren(
      make('button', { type: 'button', class: 's2i-enlarge', title: 'Enlarge', onclick: () => this.enlarge(k) }, image),
      make('button', { type: 'button', class: 's2i-save', 'aria-label': `Save picture ${place}`, textContent: 'Save', onclick: () => this.keep(k) }),
    );
  }

  enlarge(k) {
    enlarge([...this.grid.querySelectorAll('img')], k, this.keep);
  }

  // Nothing is drawn of it.
  stop() {
    this.grid.remove();
  }

  end(seconds, share) {
    const { model, seed } = this.heard;
    this.element.append(make('p', { class: 's2i-below' },
      make('span', { class: 's2i-quiet', textContent: `Model ${model}, seed ${seed}, ${seconds.toFixed(2)} s` }),
      make('button', { type: 'button', class: 's2i-link', textContent: 'Save all as one picture', onclick: () => this.keep(null) }),
      share ? make('button', { type: 'button', class: 's2i-link s2i-share', textContent: 'Share', onclick: share }) : null));
  }
}

// The recording as the model heard it: waveform, log-mel, a button that plays it.
export function recording({ seconds, sound, wave, mel }) {
  const audio = make('audio', { src: sound, preload: 'auto' });
  const done = make('span', { class: 's2i-done' });
  const play = make('button', { type: 'button', class: 's2i-play', 'aria-label': 'Play the recording' });
  play.addEventListener('click', () => (audio.paused ? audio.play() : audio.pause()));
  const follow = () => {
    done.style.width = `${(100 * audio.currentTime) / (audio.duration || seconds)}%`;
    if (!audio.paused) requestAnimationFrame(follow);
  };
  audio.addEventListener('play', () => { play.setAttribute('aria-label', 'Pause the recording'); play.classList.add('s2i-playing'); follow(); });
  for (const event of ['pause', 'ended']) {
    audio.addEventListener(event, () => { play.setAttribute('aria-label', 'Play the recording'); play.classList.remove('s2i-playing'); follow(); });
  }
  return make('section', { class: 's2i-heard', 'aria-label': 'What was heard' },
    make('h2', {}, 'What was heard ', make('span', { class: 's2i-quiet', textContent: `${seconds.toFixed(1)} s` })),
    make('div', { class: 's2i-player' }, play,
      make('div', { class: 's2i-wave' }, done, make('img', { src: wave, alt: 'Waveform: loudness over time' })), audio),
    make('img', { class: 's2i-mel', src: mel, alt: 'Log-mel spectrogram: pitch upwards, time to the right, lighter is louder' }),
    make('p', { class: 's2i-below' }, make('a', { class: 's2i-link', href: sound, download: 'heard.flac', textContent: 'Save sound' })));
}

