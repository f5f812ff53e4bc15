// The tab for what lies between two descriptions: a walk to look at, to play and to keep.
import { find, isCalm, make, notice, reveal, settingsOf } from './dom.js';
import { makeRecorder } from './recorder.js';
import { isUnknown, remark, wordsOf } from './results.js';
import { ask, keep, makeTask, Refusal } from './server.js';
import { sayIn } from './state.js';
import { exampleOf, sentenceOf } from './subjects.js';

const SIDES = ['first', 'second'];
const FRAME = 140; // milliseconds of a picture of the walk that is played

const box = find('#interpolation'), form = find('#between-options'), sides = {}, recorders = {}, loads = {};
const say = sayIn('between');
let timer = null;

function fail(refusal) {
  halt();
  say('', ''); // the notice is read as it comes
  box.replaceChildren(notice(refusal.code === 'both' ? 'One moment' : 'No pictures this time', refusal.message));
}

const run = makeTask(box, fail);

function bodyOf() {
  const body = new FormData();
  for (const name of SIDES) body.append(name, sides[name].body, name);
  return body;
}

async function draw(signal) {
  if (SIDES.some((name) => !sides[name])) throw new Refusal('both');
  halt();
  say('Drawing');
  const { recipe, ...settings } = settingsOf(form), body = bodyOf();
  const answer = await ask('page/interpolation', settings, body, signal, say);
  const walk = await answer.json(), last = walk.heard.findLastIndex(isUnknown);
  const showAll = () => {
    show(walk, walk.heard.map((side, k) => toldOf(side, k, null)), (kind) => save(settings, body, `${walk.model}-${walk.seed}-between`, kind));
    say(`${walk.pictures.length} pictures drawn`);
  };
  if (last < 0) showAll();
  else {
    box.replaceChildren(...walk.heard.map((side, k) => toldOf(side, k, k === last ? showAll : null)));
    say('Nothing shown: I do not know this');
  }
  reveal(box);
}

// What was heard of a side; of something that the model does not know, the remark with a button that shows it anyway.
function toldOf(side, k, showAnyway) {
  if (isUnknown(side)) return remark(side, showAnyway);
  if (!side.transcript) return '';
  return make('p', { class: 's2i-transcript' }, `${['First', 'Second'][k]}, I heard: `, make('q', {}, ...wordsOf(side)));
}

async function save(settings, body, name, kind) {
  say('Saving');
  try {
    const wanted = { ...settings, form: kind, recipe: settingsOf(form).recipe };
    const answer = await ask('page/interpolation', wanted, body, new AbortController().signal, say);
    keep(await answer.blob(), `${name}.${kind}`);
    say('Saved');
  } catch (error) {
    say(error.message);
  }
}

// ---- the walk ------------------------------------------------------------------------------------

function shareOf(alpha) {
  const part = Math.round(100 * alpha), named = (name) => (sides[name].caption ? `${name} (${sides[name].caption})` : name);
  return `${part} % ${named('first')}, ${100 - part} % ${named('second')}`;
}

function show(walk, heard, saveAs) {
  const link = (text, form) => make('button', { type: 'button', class: 's2i-link', textContent: text, onclick: () => saveAs(form) });
  const labels = walk.alphas.map(shareOf), last = walk.pictures.length - 1;
  const play = make('button', { type: 'button', class: 's2i-link s2i-walk', textContent: 'Play', 'aria-pressed': 'false' });
  play.addEventListener('click', () => (timer ? halt() : walkOn(play)));
  box.replaceChildren(make('section', { class: 's2i-between', 'aria-label': 'From the first to the second' }, ...heard,
    make('img', { class: 's2i-large', src: walk.pictures[0], alt: labels[0] }),
    make('label', { class: 's2i-slide' }, make('span', { textContent: 'first' }),
      make('input', { type: 'range', min: 0, max: last, value: 0, step: 1, 'aria-label': 'From the first to the second', 'aria-valuetext': labels[0] }),
      make('span', { textContent: 'second' })),
    make('div', { class: 's2i-row' }, ...walk.pictures.map((src, k) => make('button',
      { type: 'button', class: `s2i-step${k ? '' : ' s2i-chosen'}`, 'data-step': k, 'aria-label': labels[k] },
      make('img', { src, alt: '', width: 96, height: 96 })))),
    make('p', { class: 's2i-below' }, make('span', { class: 's2i-quiet', textContent: `Model ${walk.model}, seed ${walk.seed}, ${walk.seconds.toFixed(2)} s` }),
      play, link('Save as GIF', 'gif'), link('Save as WebP', 'webp'), link('Save the row', 'png'))));
  if (!isCalm()) walkOn(play);
}

// There and back, until somebody takes hold of it.
function walkOn(play) {
  let step = 1, at = Number(find('input[type=range]', box).value);
  const last = box.querySelectorAll('.s2i-step').length - 1;
  play.textContent = 'Pause';
  play.setAttribute('aria-pressed', 'true');
  timer = setInterval(() => {
    if (at + step > last || at + step < 0) step = -step;
    choose(at += step);
  }, FRAME);
}

function halt() {
  clearInterval(timer);
  timer = null;
  const play = find('.s2i-walk', box);
  if (play) { play.textContent = 'Play'; play.setAttribute('aria-pressed', 'false'); }
}

// The slider and the small pictures choose which picture is shown large.
function choose(step) {
  const steps = box.querySelectorAll('.s2i-step'), chosen = steps[step];
  const large = find('.s2i-large', box), slider = find('input[type=range]', box);
  large.src = find('img', chosen).src;
  large.alt = chosen.getAttribute('aria-label');
  slider.value = step;
  slider.setAttribute('aria-valuetext', large.alt);
  steps.forEach((other) => other.classList.toggle('s2i-chosen', other === chosen));
}

// ---- the two descriptions ------------------------------------------------------------------------

function take(name, subject) {
  sides[name] = subject;
  recorders[name].tell(subject.caption || subject.name);
  if (SIDES.every((side) => sides[side])) run(draw);
}

export function setUpInterpolation() {
  for (const name of SIDES) {
    const element = find(`#recorder-${name}`), typed = find('form', element), pick = find('.s2i-pick', element);
    const load = loads[name] = makeTask(element, fail); // of its own, so that neither side waits for the other
    recorders[name] = makeRecorder(element, say, { taken: (body, told) => { load.cancel(); take(name, { body, name: told }); } });
    typed?.addEventListener('submit', (event) => {
      event.preventDefault();
      load(async (signal) => take(name, await sentenceOf(typed.elements.text.value, signal, say, { mayRead: false })));
    });
    pick?.addEventListener('change', () => {
      const chosen = pick.selectedOptions[0];
      if (chosen.value) load(async (signal) => take(name, await exampleOf(chosen.value, chosen.textContent, signal)));
    });
  }
  find('#interpolate').addEventListener('click', () => run(draw));
  form.addEventListener('change', ({ target }) => {
    if (target.name !== 'recipe' && SIDES.every((side) => sides[side])) run(draw);
  });
  box.addEventListener('input', (event) => {
    if (event.target.matches('input[type=range]')) { halt(); choose(Number(event.target.value)); }
  });
  box.addEventListener('click', (event) => {
    const step = event.target.closest('.s2i-step');
    if (step) { halt(); choose(Number(step.dataset.step)); }
  });
  document.addEventListener('keydown', (event) => {
    if (event.key !== 'Escape') return;
    const cancelled = [run, ...Object.values(loads)].filter((task) => task.cancel());
    if (cancelled.length) say('Cancelled');
  });
}
